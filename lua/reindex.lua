-- reindex: enters an unfinished key into the index that it has lost: a dead letter into the list of
-- dead letters, another key into the due index. It changes nothing in the record.
--
-- KEYS[1] record
-- KEYS[2] due index, or list of dead letters
-- ARGV[1] nonce, echoed in the reply   ARGV[2] after how many milliseconds the key is due
--
-- Replies
--   OK      nonce: the key was entered
--   ALIVE   nonce: the index has the key already
--   GONE    nonce: the record does not exist any more
--   DONE    nonce: the record is finished
--   OTHER   nonce: the key belongs into another index
--   DAMAGED nonce; what is wrong
--
-- Safe to repeat: yes. The second time the index has the key.
-- redis.call: 6 (HMGET, TIME, PTTL, ZADD, PEXPIRE), 1 more when the index is new (PEXPIRE); 4 for
-- ALIVE, 1 for the others.
local nonce = ARGV[1]
local member = string.sub(KEYS[1], -32)

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'dead_letter', 'flow')
if r.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. r.err
end
if not r[1] then
  return 'GONE ' .. nonce
end
if r[2] == 'finished' then
  return 'DONE ' .. nonce
end
if not string.match(r[1], '^2 %d+ %S+ %d+ %d+ ') then
  return 'DAMAGED ' .. nonce .. '\n\nunknown schema version, or control cannot be read'
end
local index = (r[3] and ':dead:' or ':due:') .. string.match(r[4] or '', '^[^/]*')
if string.sub(KEYS[2], -#index) ~= index then
  return 'OTHER ' .. nonce
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life = redis.call('PTTL', KEYS[1])
local score = now + ARGV[2]
if r[3] then
  score = now + math.max(life, 0) -- the end of its record
elseif life > 0 then
  score = now + math.min(ARGV[2], life / 2)
end
local added = redis.pcall('ZADD', KEYS[2], 'NX', string.format('%.0f', score), member)
if type(added) == 'table' then
  if string.sub(added.err, 1, 9) == 'WRONGTYPE' then
    return 'DAMAGED ' .. nonce .. '\n\n' .. added.err
  end
  return added
end
if added == 0 then
  return 'ALIVE ' .. nonce
end
-- The index lives as long as the last of its records. GT takes a key without a TTL for one that
-- never expires, so NX sets the first.
if life > 0 and redis.call('PEXPIRE', KEYS[2], life, 'GT') == 0 then
  redis.call('PEXPIRE', KEYS[2], life, 'NX')
end
return 'OK ' .. nonce
