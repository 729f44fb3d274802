#!lua name=umbel
-- History of topics in Redis, for Umbel's nodes and for any other client.
--
-- A topic's only key is a stream of the channel's name, such as umbel:news. Its entries have the ids
-- <offset>-<milliseconds since 1970> and the fields e, the epoch, and m, the message with the header
-- that nodes read. Offsets count on by one. An epoch is 8 hexadecimal digits of the server's
-- replication id and 8 of the time in microseconds: a server that was restarted or promoted begins a
-- new one, since nobody knows what the last one had besides.
--
--   FCALL umbel_publish 1 umbel:news <payload> [messages 100] [seconds 300] [keep 86400]
--                                              [event <name>] [kind text|json|binary]
--                                            [origin <16 hexadecimal digits>] [trace <traceparent>]
--
-- gives a message its id, keeps it, takes off what is more or older than the topic's history may
-- hold, and publishes it, at once. It answers {id, receivers}. With a second key, such as
-- {umbel:news}:once:order-17, the message is published only once within 300 seconds, and a repeated
-- call gets the first answer; another payload under the same key is an error, UMBELKEY. The origin is
-- the session that shall not hear the message, the trace the span that publishes it, as the header
-- traceparent has it.

-- Nodes replace an older version of this library by their own.
local VERSION = 4
local ONCE_SECONDS = 300
-- How many entries that are no messages a read passes over at most.
local MOST_SKIPPED = 10000

-- The first half of epochs, asked for at most every 100 ms: a server seldom becomes another.
local known_server, known_until = nil, 0
local function server_id(ms)
  if not known_server or ms >= known_until or ms < known_until - 1000 then
    local info = redis.call('INFO', 'replication')
    known_server = string.match(info, 'master_replid:(%x%x%x%x%x%x%x%x)')
    known_until = ms + 100
  end
  return known_server
end

local function decimal(number)
  return string.format('%.0f', number)
end

-- Offset and milliseconds of an entry, which its id consists of.
local function place(entry)
  local id = entry[1]
  local dash = string.find(id, '-', 1, true)
  return tonumber(string.sub(id, 1, dash - 1)), tonumber(string.sub(id, dash + 1))
end

-- A field of an entry. One that was written by hand may have others, or none of ours.
local function field(entry, name)
  local fields = entry[2]
  if name == 'e' and fields[1] == 'e' then return fields[2] end
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
  return nil
end

local function epoch_of(entry)
  local epoch = field(entry, 'e')
  if epoch and #epoch == 16 and not string.find(epoch, '[^0-9a-f]') then return epoch end
  return nil
end

local function id_of(entry)
  local epoch = epoch_of(entry)
  if not epoch then return '' end
  local offset = place(entry)
  return epoch .. '-' .. decimal(offset)
end

-- The newest entry that says of which epoch it is, from this one back.
local function newest_of_any(key, entry)
  local seen = 0
  while entry and not epoch_of(entry) do
    local offset = place(entry)
    if offset < 1 or seen > MOST_SKIPPED then return nil end
    local entries = redis.call('XREVRANGE', key, decimal(offset - 1), '-', 'COUNT', 64)
    for i = 1, #entries do
      entry = entries[i]
      if epoch_of(entry) then return entry end
    end
    if #entries == 0 then return nil end
    seen = seen + #entries
  end
  return entry
end

-- The first entry that is not too old, of a stream whose last one isn't. Entries' times go up with
-- their offsets.
local function first_fresh(key, low, high, limit)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local offset, time = place(redis.call('XRANGE', key, decimal(middle), '+', 'COUNT', 1)[1])
    if time > limit then high = middle else low = offset + 1 end
  end
  return redis.call('XRANGE', key, decimal(high), '+', 'COUNT', 1)[1]
end

-- Takes off the entries that are older than the history may hold, but for the last one, which says
-- where the topic stands.
local function trim(key, ms, seconds)
  local limit = ms - seconds * 1000
  local from, count, fresh = '-', 1, nil
  while true do
    local entries = redis.call('XRANGE', key, from, '+', 'COUNT', count)
    if #entries == 0 then break end
    local offset, time
    for i = 1, #entries do
      offset, time = place(entries[i])
      if time > limit then
        fresh = offset
        break
      end
    end
    if fresh or #entries < count then break end
    from, count = decimal(offset + 1), 64
  end
  if fresh then
    redis.call('XTRIM', key, 'MINID', decimal(fresh))
  else
    redis.call('XTRIM', key, 'MAXLEN', 1)
  end
end

-- The message in an entry, unless it isn't one that umbel_publish wrote there.
local function message_of(entry)
  local epoch, message = epoch_of(entry), field(entry, 'm')
  if not epoch or not message then return nil end
  local digits = decimal((place(entry)))
  local begin = '\255U\1\1\16' .. epoch .. '\2' .. string.char(#digits) .. digits
  if string.sub(message, 1, #begin) ~= begin then return nil end
  return message
end

-- The newest entry of an epoch up to an offset, if one is held. Epochs follow each other and none comes
-- back, so that each is passed over by bisection; a topic that had many since is given up.
local function last_of(key, epoch, first_offset, offset)
  for _ = 1, 16 do
    if offset < first_offset then return nil end
    local entry = redis.call('XREVRANGE', key, decimal(offset), '-', 'COUNT', 1)[1]
    local high = entry and place(entry)
    if not high or high < first_offset then return nil end
    local its, low = epoch_of(entry), first_offset
    if its == epoch then return entry end
    if not its then low = high end
    while low < high do
      local middle = math.floor((low + high) / 2)
      local probe = redis.call('XRANGE', key, decimal(middle), '+', 'COUNT', 1)[1]
      if epoch_of(probe) == its then high = middle else low = place(probe) + 1 end
    end
    offset = low - 1
  end
  return nil
end

local function is_utf8(text)
  local at = string.find(text, '[\128-\255]')
  while at do
    local _, last = string.find(text, '^[\194-\223][\128-\191]', at)
    if not last then _, last = string.find(text, '^\224[\160-\191][\128-\191]', at) end
    if not last then _, last = string.find(text, '^[\225-\236\238\239][\128-\191][\128-\191]', at) end
    if not last then _, last = string.find(text, '^\237[\128-\159][\128-\191]', at) end
    if not last then _, last = string.find(text, '^\240[\144-\191][\128-\191][\128-\191]', at) end
    if not last then _, last = string.find(text, '^[\241-\243][\128-\191][\128-\191][\128-\191]', at) end
    if not last then _, last = string.find(text, '^\244[\128-\143][\128-\191][\128-\191]', at) end
    if not last then return false end
    at = string.find(text, '[\128-\255]', last + 1)
  end
  return true
end

-- The options that clients give by name, as fields of the header.
local function header_fields(event, kind, payload)
  local fields = ''
  if event then
    local is_name = is_utf8(event) and not string.find(event, '[%c]')
    if #event == 0 or #event > 127 or not is_name or string.sub(event, 1, 6) == 'umbel.' then
      return nil, 'event must be 1 to 127 bytes of UTF-8 without control characters, not beginning with umbel.'
    end
    fields = '\4' .. string.char(#event) .. event
  end
  if (kind == 'text' or kind == 'json') and not is_utf8(payload) then
    return nil, 'the payload is not UTF-8'
  end
  if kind == 'json' then
    if not pcall(cjson.decode, payload) then return nil, 'the payload is not JSON' end
    fields = fields .. '\5\1j'
  elseif kind == 'text' or kind == 'binary' then
    fields = fields .. '\5\1' .. string.sub(kind, 1, 1)
  elseif kind then
    return nil, 'kind must be text, json or binary'
  end
  return fields
end

local function is_count(number, least)
  return number and number >= least and number <= 2147483647 and number == math.floor(number)
end

local function publish(keys, args)
  local call = redis.call
  local key, once, payload = keys[1], keys[2], args[1]
  if not key or not payload then
    return redis.error_reply('ERR umbel_publish takes a topic\'s key and a payload')
  end
  local messages, seconds, keep = 100, 300, 86400
  local fields, event, kind, origin, trace, fault = nil, nil, nil, nil, nil, nil
  for i = 2, #args, 2 do
    local name, value = args[i], args[i + 1]
    if name == 'messages' then messages = tonumber(value)
    elseif name == 'seconds' then seconds = tonumber(value)
    elseif name == 'keep' then keep = tonumber(value)
    -- Nodes give the fields of the header as they are.
    elseif name == 'fields' then fields = value
    elseif name == 'event' then event = value
    elseif name == 'kind' then kind = value
    elseif name == 'origin' then origin = value
    elseif name == 'trace' then trace = value
    else return redis.error_reply('ERR umbel_publish has no option ' .. name) end
    if not value then return redis.error_reply('ERR the option ' .. name .. ' has no value') end
  end
  if not (is_count(messages, 0) and is_count(seconds, 1) and is_count(keep, 1)) then
    return redis.error_reply('ERR messages, seconds and keep must be whole numbers from 1 to 2147483647')
  end
  if not fields then
    fields, fault = header_fields(event, kind, payload)
    if not fields then return redis.error_reply('ERR ' .. fault) end
  end

  local digest
  if once then
    digest = redis.sha1hex(payload .. fields)
    local known = call('GET', once)
    if known then
      local id, receivers, of = string.match(known, '^(%S+) (%d+) (%x+)$')
      if of ~= digest then
        return redis.error_reply('UMBELKEY another message was published with this key')
      end
      -- A write: newer servers have WAIT wait only for what its own connection wrote.
      call('SET', once, known, 'KEEPTTL')
      if id == '-' then id = '' end
      return { id, tonumber(receivers) }
    end
  end

  -- A publisher that comes back is another session, and in another span, so that these are no part of
  -- what it repeats.
  if origin then
    if #origin ~= 16 or string.find(origin, '%X') then
      return redis.error_reply('ERR origin must be 16 hexadecimal digits')
    end
    fields = fields .. '\6\16' .. origin
  end
  if trace then
    if #trace ~= 55 or string.find(trace, '[^0-9a-f-]') then
      return redis.error_reply('ERR trace must be a traceparent of 55 bytes')
    end
    fields = fields .. '\7\55' .. trace
  end
  local time = call('TIME')
  local micros = time[1] .. string.format('%06d', time[2])
  local millis = string.sub(micros, 1, -4)
  local stamp = '\3' .. string.char(#micros) .. micros
  local id, envelope = '', nil
  if messages == 0 then
    envelope = '\255U\1' .. stamp .. fields .. '\0' .. payload
  else
    local ms = tonumber(millis)
    local server = server_id(ms)
    local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    local offset, epoch = 1, nil
    if last then
      offset = place(last) + 1
      epoch = epoch_of(last)
      if epoch and string.sub(epoch, 1, 8) ~= server then epoch = nil end
    end
    epoch = epoch or server .. string.format('%08x', tonumber(micros) % 4294967296)
    local digits = decimal(offset)
    id = epoch .. '-' .. digits
    envelope = '\255U\1\1\16' .. epoch .. '\2' .. string.char(#digits) .. digits .. stamp .. fields .. '\0' .. payload
    call('XADD', key, 'MAXLEN', messages, digits .. '-' .. millis, 'e', epoch, 'm', envelope)
    -- Now and then is often enough: readers pass over what is too old.
    local _, last_ms = nil, ms
    if last then _, last_ms = place(last) end
    if offset % 16 == 1 or (ms - last_ms) * 256 > keep * 1000 then
      trim(key, ms, seconds)
      call('EXPIRE', key, keep)
    end
  end
  local receivers = call('PUBLISH', key, envelope)
  if once then
    local kept = id
    if kept == '' then kept = '-' end
    call('SET', once, kept .. ' ' .. receivers .. ' ' .. digest, 'EX', ONCE_SECONDS)
  end
  return { id, receivers }
end

-- For nodes: what of a topic comes after a place, and what they need to know to judge the place.
--
-- ARGV: end | all | latest:<n> | <epoch>-<offset>; how many entries and how many bytes at most; for how
-- many seconds the history holds a message; for how many the key shall live on, 0: as it is.
-- Answers {server, milliseconds, last id, first held id, epoch at the offset, epoch behind it, last id
-- of the epoch before it, 1 if there is more, 1 if umbel_tend is due, how many entries were passed over
-- that are no messages, offset, message, offset, message, …}, '' for none. It writes nothing, so that it works while the server takes no writes.
local function read(keys, args)
  local call = redis.call
  local key, after = keys[1], args[1]
  local most, bytes, seconds, keep = tonumber(args[2]), tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local time = call('TIME')
  local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local answer = { server_id(ms), decimal(ms), '', '', '', '', '', 0, 0, 0 }
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not last then return answer end
  local limit = ms - seconds * 1000
  local last_offset, last_time = place(last)
  local known = newest_of_any(key, last)
  if known then answer[3] = id_of(known) end
  if keep > 0 and call('PTTL', key) < keep * 500 then answer[9] = 1 end
  if last_time <= limit then
    if keep > 0 and call('XLEN', key) > 1 then answer[9] = 1 end
    return answer
  end
  local first = call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  local first_offset, first_time = place(first)
  if first_time <= limit then
    if keep > 0 then answer[9] = 1 end
    first = first_fresh(key, first_offset, last_offset, limit)
    first_offset = place(first)
  end
  answer[4] = id_of(first)

  if after == 'end' or after == answer[3] then return answer end
  local from = first_offset - 1
  local count = string.match(after, '^latest:(%d+)$')
  local epoch, offset = string.match(after, '^(%x+)-(%d+)$')
  if count then
    from = math.max(from, last_offset - tonumber(count))
  elseif epoch then
    offset = tonumber(offset)
    for _, entry in ipairs(call('XRANGE', key, decimal(offset), decimal(offset + 1))) do
      local at = place(entry)
      local its = epoch_of(entry) or ''
      -- One that is too old is not held, even if it is still there.
      if at >= first_offset then
        if at == offset then answer[5] = its else answer[6] = its end
      end
    end
    if answer[5] == epoch or answer[6] == epoch then
      from = math.max(from, offset)
    else
      local entry = last_of(key, epoch, first_offset, math.min(offset - 1, last_offset))
      if entry then
        answer[7] = id_of(entry)
        from = place(entry)
      end
    end
  elseif after ~= 'all' then
    return redis.error_reply('ERR umbel_read knows no place ' .. after)
  end

  local given, size, skipped, in_a_row = 0, 0, 0, 0
  while given < most and size < bytes and from < last_offset do
    local entries = call('XRANGE', key, decimal(from + 1), '+', 'COUNT', math.min(most - given, 128))
    if #entries == 0 then break end
    for _, entry in ipairs(entries) do
      local message = message_of(entry)
      if message and given > 0 and size + #message > bytes then
        size = bytes
        break
      end
      from = place(entry)
      if message then
        answer[#answer + 1] = decimal(from)
        answer[#answer + 1] = message
        given, size, in_a_row = given + 1, size + #message, 0
      else
        skipped, in_a_row = skipped + 1, in_a_row + 1
      end
    end
    if in_a_row > MOST_SKIPPED then
      if given > 0 then break end
      return redis.error_reply('ERR more than ' .. MOST_SKIPPED .. ' entries in a row are no messages')
    end
  end
  if from < last_offset then answer[8] = 1 end
  answer[10] = skipped
  return answer
end

-- For nodes: where topics stand of which they heard nothing, many at once.
--
-- ARGV: for how many seconds the history holds a message; for how many the keys shall live on, 0: as they
-- are. Answers {server, milliseconds, last id, last id, …} in the order of the keys: '' for a topic without any, '?' where
-- umbel_read has more to say. It writes nothing. What grew too old before the last message did isn't looked
-- for: it takes memory until that has, too, or the next message comes.
local function stands(keys, args)
  local call = redis.call
  local seconds, keep = tonumber(args[1]), tonumber(args[2])
  local time = call('TIME')
  local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local limit = ms - seconds * 1000
  local answer = { server_id(ms), decimal(ms) }
  for i = 1, #keys do
    local key, stand = keys[i], ''
    -- Not even a key of another type keeps the others from an answer.
    local entries = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
    local last = entries[1]
    if entries.err or (last and not epoch_of(last)) then
      stand = '?'
    elseif last then
      local _, last_time = place(last)
      local is_old = last_time <= limit and call('XLEN', key) > 1
      local is_due = keep > 0 and (is_old or call('PTTL', key) < keep * 500)
      stand = is_due and '?' or id_of(last)
    end
    answer[i + 2] = stand
  end
  return answer
end

-- For nodes: takes off what is older than so many seconds, and has the key live on for so many.
local function tend(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  local time = redis.call('TIME')
  trim(keys[1], tonumber(time[1]) * 1000, tonumber(args[1]))
  return redis.call('EXPIRE', keys[1], tonumber(args[2]))
end

-- Above is what servers without functions run as scripts.
redis.register_function('umbel_publish', publish)
redis.register_function('umbel_tend', tend)
redis.register_function{ function_name = 'umbel_read', callback = read, flags = { 'no-writes' } }
redis.register_function{ function_name = 'umbel_stands', callback = stands, flags = { 'no-writes' } }
redis.register_function{
  function_name = 'umbel_version', callback = function() return VERSION end, flags = { 'no-writes' }
}
