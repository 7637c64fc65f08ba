-- unlock: takes the lease away from its holder. It is an operator's last resort. The fence grows,
-- so that the former holder's commit is refused; the recovery point stays, and a snooze goes on.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] the fence that the caller has seen, '' for any
--
-- Replies
--   OK      nonce
--   FREE    nonce: as OK, but no worker had a lease that could be taken away
--   GONE    nonce: the record does not exist; a stray lock was deleted
--   DONE    nonce: the record is finished; a stray lock was deleted
--   MOVED   nonce: the fence is another one, so the lease that the caller has seen is not the last
--   DAMAGED nonce; what is wrong
--
-- Safe to repeat: yes. With ARGV[2] '', each time takes the lease away from its holder at that
-- moment, and one that finds none gets FREE. With a fence, a repeated call gets MOVED and changes
-- nothing.
-- redis.call: 3 (HMGET, DEL, HSET), 2 more when a caller waits (HDEL, PUBLISH). 2 for MOVED (HMGET,
-- HDEL).
local nonce = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'waiting')
if r.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. r.err
end
local revision, owner, fence, counts, spent, rest
if r[1] then
  revision, owner, fence, counts, spent, rest = string.match(r[1], '^2 (%d+) (%S+) (%d+) (%d+ %d+ %d+) (%S+) (%d+ %S+)$')
  if not revision then
    return 'DAMAGED ' .. nonce .. '\n\nunknown schema version, or control cannot be read'
  end
  if ARGV[2] ~= '' and fence ~= ARGV[2] then
    redis.call('HDEL', KEYS[1], '') -- changes nothing, but only a master accepts it
    return 'MOVED ' .. nonce
  end
end
local held = redis.call('DEL', KEYS[2]) == 1 or owner ~= '-' and owner ~= '~'
if not r[1] then
  return 'GONE ' .. nonce
end
if r[2] == 'finished' then
  return 'DONE ' .. nonce
end
local free = '-'
if owner == '~' then
  free = owner -- the key snoozes, and goes on to
elseif owner ~= '-' then
  spent = owner
end
redis.call('HSET', KEYS[1], 'control', '2 ' .. revision .. ' ' .. free .. ' ' .. string.format('%.0f', fence + 1) .. ' ' .. counts .. ' '
  .. spent .. ' ' .. rest)
if r[3] then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[3], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
if not held then
  return 'FREE ' .. nonce
end
return 'OK ' .. nonce
