-- requeue: takes a key out of the dead letters and makes it due at once. A key in neither index
-- becomes due, too. Its attempts stay counted, because they say that work had begun; the limits of
-- attempts and of time count from here.
--
-- KEYS[1] record   KEYS[2] lock   KEYS[3] due index   KEYS[4] dead letters
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] the fence that the caller has seen, '' for any
--
-- Replies
--   OK      nonce
--   GONE    nonce: the record does not exist any more; its dead letter was dropped
--   DONE    nonce: the record is finished; its dead letter was dropped
--   BUSY    nonce, remaining time of the lock in milliseconds
--   ALIVE   nonce: the key is in the due index and is not a dead letter
--   MOVED   nonce: the fence is another one, so there was a claim or an act since
--   OTHER   nonce; the record's flow, which has another index and list
--   DAMAGED nonce; what is wrong
--
-- Safe to repeat: yes. The second time the key is not a dead letter.
-- redis.call: 9 (HMGET, PTTL, TIME, HSET, HDEL, ZREM, ZADD, PTTL, PEXPIRE); 1 more when the key was
-- not a dead letter (ZSCORE), and 1 more when the index is new (PEXPIRE). 2 for GONE and DONE
-- (HMGET, ZREM), 3 for ALIVE (HMGET, ZSCORE, ZREM), 2 for MOVED (HMGET, HDEL).
local nonce = ARGV[1]
local member = string.sub(KEYS[1], -32)

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'dead_letter', 'flow')
if r.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. r.err
end
if not r[1] then
  redis.call('ZREM', KEYS[4], member)
  return 'GONE ' .. nonce
end
if r[2] == 'finished' then
  redis.call('ZREM', KEYS[4], member)
  return 'DONE ' .. nonce
end
local revision, fence, stage = string.match(r[1], '^2 (%d+) %S+ (%d+) (%d+) ')
if not revision then
  return 'DAMAGED ' .. nonce .. '\n\nunknown schema version, or control cannot be read'
end
if ARGV[2] ~= '' and fence ~= ARGV[2] then
  redis.call('HDEL', KEYS[1], '') -- changes nothing, but only a master accepts it
  return 'MOVED ' .. nonce
end
local flow = string.match(r[4] or '', '^[^/]*')
if string.sub(KEYS[3], -#flow - 5) ~= ':due:' .. flow then
  return 'OTHER ' .. nonce .. '\n\n' .. (r[4] or '')
end
if not r[3] and redis.call('ZSCORE', KEYS[3], member) then
  redis.call('ZREM', KEYS[4], member)
  return 'ALIVE ' .. nonce
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return 'BUSY ' .. nonce .. ' ' .. left
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'requeued', revision .. ' ' .. stage .. ' ' .. time[1] .. string.rep('0', 6 - #time[2]) .. time[2])
redis.call('HDEL', KEYS[1], 'dead_letter', 'refused')
redis.call('ZREM', KEYS[4], member)
redis.call('ZADD', KEYS[3], string.format('%.0f', time[1] * 1000), member)
-- The index lives as long as the last of its records. GT takes a key without a TTL for one that
-- never expires, so NX sets the first.
local life = redis.call('PTTL', KEYS[1])
if life > 0 and redis.call('PEXPIRE', KEYS[3], life, 'GT') == 0 then
  redis.call('PEXPIRE', KEYS[3], life, 'NX')
end
return 'OK ' .. nonce
