-- delete: removes a record that nobody is working on.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the revision the caller has seen, '' for any
--
-- Replies
--   OK    nonce
--   GONE  nonce: there is none, or an earlier try of this very delete removed it
--   BUSY  nonce, remaining time of the lock in milliseconds
--   MOVED nonce: the revision is another one
--
-- Safe to repeat: yes. A damaged record can be deleted, with ARGV[2] ''.
-- redis.call: 4 (EXISTS, PTTL, HGET, DEL), 3 with ARGV[2] ''.
local nonce = ARGV[1]

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'GONE', nonce}
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return {'BUSY', nonce, tostring(left)}
end
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'revision') ~= ARGV[2] then
  return {'MOVED', nonce}
end
redis.call('DEL', KEYS[1])
return {'OK', nonce}
