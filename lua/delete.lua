-- delete: removes a record that nobody is working on, and tells those who keep copies of finished ones.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the revision the caller has seen, '' for any
-- ARGV[3] when the record that the caller has seen was created, '' for any: it may have been deleted and made again
-- ARGV[4] channel on which deletions are told
--
-- Replies
--   OK    nonce
--   GONE  nonce: there is none, or an earlier try of this very delete removed it; another record may be there since
--   BUSY  nonce, remaining time of the lock in milliseconds
--   MOVED nonce: the revision is another one
--
-- Safe to repeat: yes. A damaged record can be deleted, with ARGV[2] ''.
-- redis.call: 5 (EXISTS, PTTL, HMGET, DEL, PUBLISH), 4 with ARGV[2] ''; 3 for GONE (EXISTS, DEL, PUBLISH).
local nonce = ARGV[1]

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1]) -- which only a master can say
  redis.pcall('PUBLISH', ARGV[4], KEYS[1])
  return {'GONE ' .. nonce}
end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 then
  return {'BUSY ' .. nonce .. ' ' .. left}
end
if ARGV[2] ~= '' then
  local r = redis.call('HMGET', KEYS[1], 'control', 'created_at')
  if ARGV[3] ~= '' and r[2] ~= ARGV[3] then
    redis.call('HDEL', KEYS[1], '') -- changes nothing, but only a master can say this
    return {'GONE ' .. nonce}
  end
  if string.match(r[1] or '', '^1 (%d+) ') ~= ARGV[2] then
    redis.call('HDEL', KEYS[1], '')
    return {'MOVED ' .. nonce}
  end
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[4], KEYS[1])
return {'OK ' .. nonce}
