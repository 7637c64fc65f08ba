-- releaseinmigration: gives a lock back while the slot of its key migrates. It replaces the release
-- of redislock, which needs a lock that the same process has obtained through redislock.
--
-- KEYS[1] lock
-- ARGV[1] token
--
-- Replies
--   OK   token
--   LOST token: another token has the lock, or none has
--
-- Safe to repeat: yes.
-- redis.call: 2 (GET, DEL), 1 for LOST.
local token = ARGV[1]

if redis.call('GET', KEYS[1]) ~= token then
  return 'LOST ' .. token
end
redis.call('DEL', KEYS[1])
return 'OK ' .. token
