-- create: makes the record of a key, or reports the one that exists.
--
-- KEYS[1] record. It is the only key, so a cluster serves the call while it moves the slot
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] fingerprint of the request
-- ARGV[3] retention in milliseconds
-- ARGV[4] flags:
--         'd' the caller waits for replicas, so a reply about an older write must be a write too
--         'l' the reply has the remaining life of a finished record
--         'p' the reply has the params of a finished record
-- ARGV[5] scope   ARGV[6] key   ARGV[7] method   ARGV[8] path
-- ARGV[9...] further field, value, ... of the new record
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
-- 3 when it finds (EXISTS, HMGET, HMGET or HGETALL; 2 more with 'd', 1 more with 'l'); 3 for
-- MISMATCH (EXISTS, HMGET, HDEL).
local nonce = ARGV[1]

-- Params, state and response are read only for replies that have them.
local exists = redis.call('EXISTS', KEYS[1]) == 1
local r = exists and redis.pcall('HMGET', KEYS[1], 'control', 'fingerprint', 'recovery_point', 'flow', 'created_at', 'generation') or {}
if r.err then
  return {'DAMAGED ' .. nonce, r.err}
end
local control, printed, point, flow, created, generation = r[1], r[2], r[3], r[4], r[5], r[6]
-- A tombstone of a delete is not a record. The new record keeps its generation.
if not exists or generation and not control and not printed then
  local time = redis.call('TIME')
  -- As text: formatting numbers of that size costs more than joining strings.
  local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
  redis.call('HSET', KEYS[1], 'control', '1 0 - 0 0 0 0 -', 'fingerprint', ARGV[2], 'recovery_point', 'started',
    'created_at', now, 'scope', ARGV[5], 'idempotency_key', ARGV[6], 'request_method', ARGV[7], 'request_path', ARGV[8],
    unpack(ARGV, 9))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'CREATED ' .. nonce .. ' ' .. now .. (generation and ' ' .. string.match(generation, '^%d*') or '')}
end
if not control then
  return {'DAMAGED ' .. nonce, 'the hash has no schema version'}
end
if string.sub(control, 1, 2) ~= '1 ' then
  return {'DAMAGED ' .. nonce, 'unknown schema version'}
end
if not printed or not point then
  return {'DAMAGED ' .. nonce, 'a field is missing'}
end
local revision = string.match(control, '^1 (%d+) ')
if not revision then
  return {'DAMAGED ' .. nonce, 'control cannot be read'}
end
if printed ~= ARGV[2] then
  -- Changes nothing, but a server that is no longer a master refuses it: its data may be out of
  -- date.
  redis.call('HDEL', KEYS[1], '')
  return {'MISMATCH ' .. nonce}
end
if string.find(ARGV[4], 'd', 1, true) then
  local expires = redis.call('PEXPIRETIME', KEYS[1])
  if expires > 0 then
    redis.call('PEXPIREAT', KEYS[1], expires)
  else
    redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- its expiry was removed from outside
  end
end
if point == 'finished' then
  local life = ''
  if string.find(ARGV[4], 'l', 1, true) then
    life = redis.call('PTTL', KEYS[1])
  end
  -- A finished key is read for everything but the state, and for the params on request.
  local names = {'scope', 'idempotency_key', 'request_method', 'request_path', 'response_code', 'response_headers', 'response_body', 'not_kept'}
  if string.find(ARGV[4], 'p', 1, true) then
    names[#names + 1] = 'request_params'
  end
  -- The journal of a flow has up to 1024 commits and a compensation for each.
  for back = math.min(revision, flow and 2049 or 64), 1, -1 do
    names[#names + 1] = 'j:' .. string.format('%d', revision - back)
  end
  local values = redis.call('HMGET', KEYS[1], unpack(names))
  local words = {'FOUND ' .. nonce .. ' ' .. life, 'control', control, 'fingerprint', printed, 'recovery_point', point}
  local last = #words
  if created then
    words[last + 1], words[last + 2], last = 'created_at', created, last + 2
  end
  if flow then
    words[last + 1], words[last + 2], last = 'flow', flow, last + 2
  end
  for i = 1, #names do
    if values[i] then
      words[last + 1], words[last + 2], last = names[i], values[i], last + 2
    end
  end
  return words
end
return {'FOUND ' .. nonce, unpack(redis.call('HGETALL', KEYS[1]))}
