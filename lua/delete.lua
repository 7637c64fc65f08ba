-- delete: removes a record whose lock is free, and notifies the processes that hold copies of finished records. It leaves a tombstone, a hash
-- with a generation and nothing else, which every script takes for an absent record. The record that is made in its place keeps the
-- generation.
--
-- KEYS[1] record   KEYS[2] lock
-- KEYS[3] due index   KEYS[4] dead letters, both of the flow that the caller has seen the record to have; left out when it has seen none
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the revision the caller has seen, '' for any
-- ARGV[3] when the record that the caller has seen was created, '' for any: it may have been deleted and made again
-- ARGV[4] channel on which deletions are published   ARGV[5] retention in milliseconds, which the tombstone lives for
--
-- Replies
--   OK    nonce
--   GONE  nonce: there is none, or an earlier try of this very delete removed it; another record may be there since
--   BUSY  nonce, remaining time of the lock in milliseconds
--   MOVED nonce: the revision is another one
--   DAMAGED nonce; what is wrong: what is there has no revision that the caller can have seen
--
-- Safe to repeat: yes. The generation names the delete that made it, also in the next record: a repeated delete of that name gets
-- GONE and changes nothing. A damaged record can be deleted, with ARGV[2] ''.
-- redis.call: 6 (HMGET, PTTL, DEL, HSET, PEXPIRE, PUBLISH), two more with a flow (ZREM twice), one less when there is no record (PTTL);
-- 3 when repeated (HMGET, HDEL, PUBLISH), 3 for MOVED, 2 for BUSY.
local nonce = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'created_at', 'generation')
if r.err and ARGV[2] ~= '' then
  return {'DAMAGED ' .. nonce, r.err}
end
local generation, by = string.match(r[3] or '', '^(%d+) (%S+)$')
if by == nonce then
  redis.call('HDEL', KEYS[1], '') -- changes nothing, but only a master can say this
  redis.pcall('PUBLISH', ARGV[4], KEYS[1])
  return {'GONE ' .. nonce}
end
local exists = r.err or r[1] or r[2]
if exists then
  local left = redis.call('PTTL', KEYS[2])
  if left ~= -2 then
    return {'BUSY ' .. nonce .. ' ' .. left}
  end
  if ARGV[3] ~= '' and r[2] ~= ARGV[3] then
    redis.call('HDEL', KEYS[1], '')
    return {'GONE ' .. nonce}
  end
  if ARGV[2] ~= '' and string.match(r[1] or '', '^1 (%d+) ') ~= ARGV[2] then
    redis.call('HDEL', KEYS[1], '')
    return {'MOVED ' .. nonce}
  end
end
-- DEL comes first: a server whose memory is full accepts what else a script writes once it has written.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'generation', string.format('%d', (generation or 0) + 1) .. ' ' .. nonce)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
-- What stays in an index is cleared when a completer or a requeue comes to it.
if KEYS[3] then
  redis.pcall('ZREM', KEYS[3], string.sub(KEYS[1], -32))
  redis.pcall('ZREM', KEYS[4], string.sub(KEYS[1], -32))
end
redis.pcall('PUBLISH', ARGV[4], KEYS[1])
if exists then
  return {'OK ' .. nonce}
end
return {'GONE ' .. nonce}
