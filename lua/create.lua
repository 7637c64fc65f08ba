-- create: makes the record of a key, or reports the one that is there.
--
-- KEYS[1] record
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] fingerprint of the request
-- ARGV[3] retention in milliseconds
-- ARGV[4] '1': the caller waits for replicas, so a reply about an older write must be a write too
-- ARGV[5...] field, value, ... of the new record
--
-- Replies
--   CREATED  nonce, server time in microseconds
--   FOUND    nonce, then the record as field, value, ...
--   MISMATCH nonce
--   DAMAGED  nonce, what is wrong
--
-- Safe to repeat: yes. A repeated create finds what the first one made. It never extends or overwrites a record.
-- redis.call: 5 when it creates (HMGET, EXISTS, TIME, HSET, PEXPIRE), 2 when it finds (4 with ARGV[4]).
local nonce = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'v', 'fingerprint', 'recovery_point')
if r.err then
  return {'DAMAGED', nonce, r.err}
end

if not r[1] then
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'DAMAGED', nonce, 'the hash has no schema version'}
  end
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('HSET', KEYS[1], 'created_at', now, unpack(ARGV, 5))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'CREATED', nonce, now}
end

if r[1] ~= '1' then
  return {'DAMAGED', nonce, 'unknown schema version'}
end
if not r[2] or not r[3] then
  return {'DAMAGED', nonce, 'a field is missing'}
end
if r[2] ~= ARGV[2] then
  return {'MISMATCH', nonce}
end
if ARGV[4] == '1' then
  redis.call('PEXPIREAT', KEYS[1], redis.call('PEXPIRETIME', KEYS[1]))
end
return {'FOUND', nonce, unpack(redis.call('HGETALL', KEYS[1]))}
