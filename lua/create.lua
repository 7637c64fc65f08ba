-- create: makes the record of a key, or reports the one that exists.
--
-- KEYS[1] record. It is the only key, so a cluster serves the call while it moves the slot
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] fingerprint of the request
-- ARGV[3] retention in milliseconds
-- ARGV[4] scope, key, method and path, as the record's field request has them
-- ARGV[5] params, '' for none
-- The others may be left out from the end on, and are then ''.
-- ARGV[6] flags:
--         'd' the caller waits for replicas, so a reply about an older write must be a write too
--         'l' the reply has the remaining life of a finished record
--         'p' the reply has the params of a finished record
-- ARGV[7] the trace context of the caller, for the new record
--
-- Replies
--   CREATED  nonce, server time in microseconds, and the record's generation when it is made in
--            place of a tombstone
--   FOUND    nonce, with 'l' the remaining life of a finished record in milliseconds; the record as
--            field, value, ...; a finished one without its state, and without its params unless 'p'
--            asks for them
--   MISMATCH nonce: the record has another fingerprint
--   DAMAGED  nonce; what is wrong
--
-- Safe to repeat: yes. A repeated create finds the record that the first one made. It never extends
-- or overwrites a record.
-- redis.call: 4 when it creates (EXISTS, TIME, HSET, PEXPIRE; in place of a tombstone HMGET, too);
-- 3 when it finds (EXISTS, HMGET, HMGET or HGETALL; 2 more with 'd', 1 more with 'l'; 1 more
-- (HMGET) for a single commit without a response or with a failure before it); 3 for
-- MISMATCH (EXISTS, HMGET, HDEL).
local nonce = ARGV[1]

-- Params, state and response are read only for replies that have them.
local exists = redis.call('EXISTS', KEYS[1]) == 1
local r = exists and redis.pcall('HMGET', KEYS[1], 'control', 'fingerprint', 'recovery_point', 'flow', 'generation') or {}
if r.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. r.err
end
local control, printed, point, flow, generation = r[1], r[2], r[3], r[4], r[5]
local flags = ARGV[6] or ''
-- A tombstone of a delete is not a record. The new record keeps its generation.
if not exists or generation and not control and not printed then
  local time = redis.call('TIME')
  -- As text: formatting numbers of that size costs more than joining strings.
  local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
  local fields = {}
  if ARGV[5] ~= '' then
    fields = {'request_params', ARGV[5]}
  end
  if (ARGV[7] or '') ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'origin', ARGV[7]
  end
  redis.call('HSET', KEYS[1], 'control', '2 0 - 0 0 0 0 - ' .. now .. ' -', 'fingerprint', ARGV[2], 'recovery_point', 'started',
    'request', ARGV[4], unpack(fields))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 'CREATED ' .. nonce .. ' ' .. now .. (generation and ' ' .. string.match(generation, '^%d*') or '')
end
if not control then
  return 'DAMAGED ' .. nonce .. '\n\nthe hash has no schema version'
end
if string.sub(control, 1, 2) ~= '2 ' then
  return 'DAMAGED ' .. nonce .. '\n\nunknown schema version'
end
if not printed or not point then
  return 'DAMAGED ' .. nonce .. '\n\na field is missing'
end
local revision = string.match(control, '^2 (%d+) ')
if not revision then
  return 'DAMAGED ' .. nonce .. '\n\ncontrol cannot be read'
end
if printed ~= ARGV[2] then
  -- Changes nothing, but a server that is no longer a master refuses it: its data may be out of
  -- date.
  redis.call('HDEL', KEYS[1], '')
  return 'MISMATCH ' .. nonce
end
if string.find(flags, 'd', 1, true) then
  local expires = redis.call('PEXPIRETIME', KEYS[1])
  if expires > 0 then
    redis.call('PEXPIREAT', KEYS[1], expires)
  else
    redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- its expiry was removed from outside
  end
end
-- The commonest replay is the answer of a single commit, with the record in order. It is joined
-- here in one piece, which takes the server half of what the lists further down take.
if point == 'finished' and flags == '' and not flow and revision == '1' then
  local r = redis.call('HMGET', KEYS[1], 'request', 'response_code', 'response_headers', 'response_body', 'j:0', 'not_kept', 'last_failure')
  if r[1] and r[2] and r[4] and r[5] and not r[6] and not r[7] then
    local length, headers = '', ''
    if r[3] then
      length, headers = '16 ' .. #r[3] .. ' ', 'response_headers' .. r[3]
    end
    return 'FOUND ' .. nonce
      .. ' \n7 ' .. #control .. ' 11 ' .. #printed .. ' 14 8 7 ' .. #r[1] .. ' 13 ' .. #r[2] .. ' ' .. length .. '13 ' .. #r[4]
      .. ' 3\ncontrol' .. control .. 'fingerprint' .. printed .. 'recovery_pointfinishedrequest' .. r[1] .. 'response_code' .. r[2]
      .. headers .. 'response_body' .. r[4] .. 'j:0' .. r[5]
  end
end

-- Joins texts in pieces, since some Lua interpreters join no more than a few thousand at once.
local function join(list, between)
  local joined = table.concat(list, between, 1, math.min(#list, 1000))
  for i = 1001, #list, 1000 do
    joined = joined .. between .. table.concat(list, between, i, math.min(i + 999, #list))
  end
  return joined
end

-- Returns a reply with texts: a line with their lengths, without the last one, and the texts.
local function texts(first, list)
  local lengths = {}
  for i = 1, #list - 1 do
    lengths[i] = #list[i]
  end
  return first .. '\n' .. join(lengths, ' ') .. '\n' .. join(list, '')
end

if point == 'finished' then
  local life = ''
  if string.find(flags, 'l', 1, true) then
    life = redis.call('PTTL', KEYS[1])
  end
  -- A finished key is read for everything but the state, and for the params on request.
  local names = {'request', 'response_code', 'response_headers', 'response_body', 'not_kept', 'last_failure'}
  if string.find(flags, 'p', 1, true) then
    names[#names + 1] = 'request_params'
  end
  -- The journal of a flow has up to 1024 commits and a compensation for each.
  for back = math.min(revision, flow and 2049 or 64), 1, -1 do
    names[#names + 1] = 'j:' .. string.format('%d', revision - back)
  end
  local values = redis.call('HMGET', KEYS[1], unpack(names))
  local words = {'control', control, 'fingerprint', printed, 'recovery_point', point}
  local last = #words
  if flow then
    words[last + 1], words[last + 2], last = 'flow', flow, last + 2
  end
  for i = 1, #names do
    if values[i] then
      words[last + 1], words[last + 2], last = names[i], values[i], last + 2
    end
  end
  return texts('FOUND ' .. nonce .. ' ' .. life, words)
end
return texts('FOUND ' .. nonce, redis.call('HGETALL', KEYS[1]))
