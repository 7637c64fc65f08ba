-- delete: removes a record whose lock is free, and notifies the processes that hold copies of
-- finished records. It leaves a tombstone: a hash with a generation and nothing else, which every
-- script takes for an absent record. The record that is made in its place keeps the generation.
--
-- KEYS[1] record   KEYS[2] lock
-- KEYS[3] due index    KEYS[4] dead letters: both of the flow that the record had when the caller
--         read it; left out when it had none
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2] the revision that the caller has seen, '' for any
-- ARGV[3] when the record that the caller has seen was created, since it may have been deleted and
--         made again; '' for any
-- ARGV[4] channel on which deletions are published
-- ARGV[5] retention in milliseconds, which is how long the tombstone lives
--
-- Replies
--   OK      nonce
--   GONE    nonce: the record does not exist, or an earlier try of this delete removed it; another
--           record may exist since
--   BUSY    nonce, remaining time of the lock in milliseconds
--   MOVED   nonce: the revision is another one
--   DAMAGED nonce; what is wrong: the stored value has no revision that the caller can have seen
--
-- Safe to repeat: yes. The generation names the delete that made it, also in the next record. A
-- repeated delete of that name gets GONE and changes nothing. A damaged record can be deleted, with
-- ARGV[2] ''.
-- redis.call: 6 (HMGET, PTTL, DEL, HSET, PEXPIRE, PUBLISH); 2 more with a flow (ZREM twice); 1 less
-- when the record does not exist (PTTL). 3 when repeated (HMGET, HDEL, PUBLISH), 3 for MOVED, 2 for
-- BUSY.
local nonce = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'fingerprint', 'generation')
if r.err and ARGV[2] ~= '' then
  return 'DAMAGED ' .. nonce .. '\n\n' .. r.err
end
local generation, by = string.match(r[3] or '', '^(%d+) (%S+)$')
if by == nonce then
  redis.call('HDEL', KEYS[1], '') -- changes nothing, but only a master accepts it
  redis.pcall('PUBLISH', ARGV[4], KEYS[1])
  return 'GONE ' .. nonce
end
local exists = r.err or r[1] or r[2]
if exists then
  local left = redis.call('PTTL', KEYS[2])
  if left ~= -2 then
    return 'BUSY ' .. nonce .. ' ' .. left
  end
end
if r[1] then
  local revision, created = string.match(r[1], '^2 (%d+) %S+ %d+ %d+ %d+ %d+ %S+ (%d+) ')
  if created and ARGV[3] ~= '' and created ~= ARGV[3] then
    redis.call('HDEL', KEYS[1], '')
    return 'GONE ' .. nonce
  end
  if ARGV[2] ~= '' and revision ~= ARGV[2] then
    redis.call('HDEL', KEYS[1], '')
    return 'MOVED ' .. nonce
  end
end
-- DEL comes first: a server with full memory accepts the further writes of a script that has
-- written.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'generation', string.format('%d', (generation or 0) + 1) .. ' ' .. nonce)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
-- A completer or a requeue that finds an entry of the deleted key clears it.
if KEYS[3] then
  redis.pcall('ZREM', KEYS[3], string.sub(KEYS[1], -32))
  redis.pcall('ZREM', KEYS[4], string.sub(KEYS[1], -32))
end
redis.pcall('PUBLISH', ARGV[4], KEYS[1])
if exists then
  return 'OK ' .. nonce
end
return 'GONE ' .. nonce
