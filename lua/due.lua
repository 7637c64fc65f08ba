-- due: hands out keys of a shard whose flow a completer may carry on. What is handed out is put off, so that no other
-- completer gets it meanwhile, and so that it comes back when this one dies.
--
-- KEYS[1] due index
-- ARGV[1] nonce, echoed in the reply   ARGV[2] how many at most   ARGV[3] milliseconds to put them off
-- ARGV[4] how long a record lives at most, in milliseconds
-- ARGV[5] the reply's last number when this look asked before: what became due since is left to the next; '' the first time
--
-- Replies
--   OK nonce, until when they are put off as their score says it, when keys must have been due; the ends of the records' names
--   DAMAGED nonce; what is wrong: the key is no index
--
-- Safe to repeat: yes, though what a lost reply handed out comes back only when the time is over. The index is a hint, the
-- record the truth.
-- redis.call: 3 when nothing is due (TIME, ZRANGEBYSCORE, PTTL), one more for each that is (ZADD), and now and then another one
-- (PEXPIRE).
local nonce = ARGV[1]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bound = string.format('%.0f', math.min(now, tonumber(ARGV[5]) or now))
local due = redis.pcall('ZRANGEBYSCORE', KEYS[1], '-inf', bound, 'LIMIT', '0', ARGV[2])
if due.err then
  return {'DAMAGED ' .. nonce, due.err}
end
local aside = string.format('%.0f', now + ARGV[3])
for _, member in ipairs(due) do
  redis.call('ZADD', KEYS[1], aside, member)
end
-- Who works on a key without its flow prolongs the record and does not know of the index: as long as somebody looks, it stays.
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left * 2 < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return {'OK ' .. nonce .. ' ' .. aside .. ' ' .. bound, unpack(due)}
