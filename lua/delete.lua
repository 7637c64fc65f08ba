-- delete: removes a record that nobody is working on, and tells those who keep copies of finished ones.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the revision the caller has seen, '' for any
-- ARGV[3] channel on which deletions are told
--
-- Replies
--   OK    nonce
--   GONE  nonce: there is none, or an earlier try of this very delete removed it
--   BUSY  nonce, remaining time of the lock in milliseconds
--   MOVED nonce: the revision is another one
--
-- Safe to repeat: yes. A damaged record can be deleted, with ARGV[2] ''.
-- redis.call: 5 (EXISTS, PTTL, HGET, DEL, PUBLISH), 4 with ARGV[2] ''; 2 for GONE (EXISTS, PUBLISH).
local nonce = ARGV[1]

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.pcall('PUBLISH', ARGV[3], KEYS[1])
  return {'GONE', nonce}
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return {'BUSY', nonce, tostring(left)}
end
if ARGV[2] ~= '' then
  local control = redis.call('HGET', KEYS[1], 'control') or ''
  if string.match(control, '^1 (%d+) ') ~= ARGV[2] then
    return {'MOVED', nonce}
  end
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[3], KEYS[1])
return {'OK', nonce}
