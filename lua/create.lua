-- create: makes the record of a key, or reports the one that is there.
--
-- KEYS[1] record, alone: a cluster that moves its slot serves it all the same
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] fingerprint of the request
-- ARGV[3] retention in milliseconds
-- ARGV[4] flags: 'd', the caller waits for replicas, so a reply about an older write must be a write too;
--         'l', it wants to know how long a finished record still lives
-- ARGV[5] scope   ARGV[6] key   ARGV[7] method   ARGV[8] path   ARGV[9...] further field, value, ... of the new record
--
-- Replies
--   CREATED  nonce, server time in microseconds
--   FOUND    nonce, remaining life of a finished record in milliseconds with 'l'; the record as field, value, ...
--   MISMATCH nonce
--   DAMAGED  nonce; what is wrong
--
-- Safe to repeat: yes. A repeated create finds what the first one made. It never extends or overwrites a record.
-- redis.call: 4 when it creates (HGETALL, TIME, HSET, PEXPIRE), 1 when it finds (2 more with 'd', 1 more with 'l').
local nonce = ARGV[1]

local all = redis.pcall('HGETALL', KEYS[1])
if all.err then
  return {'DAMAGED ' .. nonce, all.err}
end

if #all == 0 then
  local time = redis.call('TIME')
  -- As text: numbers of that size cost more to write than to join.
  local now = time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
  redis.call('HSET', KEYS[1], 'control', '1 0 - 0 0 0 0 -', 'fingerprint', ARGV[2], 'recovery_point', 'started',
    'created_at', now, 'scope', ARGV[5], 'idempotency_key', ARGV[6], 'request_method', ARGV[7], 'request_path', ARGV[8],
    unpack(ARGV, 9))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'CREATED ' .. nonce .. ' ' .. now}
end

local control, printed, point
for i = 1, #all, 2 do
  local field = all[i]
  if field == 'control' then
    control = all[i + 1]
  elseif field == 'fingerprint' then
    printed = all[i + 1]
  elseif field == 'recovery_point' then
    point = all[i + 1]
  end
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
if printed ~= ARGV[2] then
  -- Changes nothing, but makes a server that is no master any more say so: what it has may be of the past.
  redis.call('HDEL', KEYS[1], '')
  return {'MISMATCH ' .. nonce}
end
if string.find(ARGV[4], 'd', 1, true) then
  local expires = redis.call('PEXPIRETIME', KEYS[1])
  if expires > 0 then
    redis.call('PEXPIREAT', KEYS[1], expires)
  else
    redis.call('PEXPIRE', KEYS[1], ARGV[3]) -- somebody took its expiry
  end
end
local life = ''
if point == 'finished' and string.find(ARGV[4], 'l', 1, true) then
  life = redis.call('PTTL', KEYS[1])
end
return {'FOUND ' .. nonce .. ' ' .. life, unpack(all)}
