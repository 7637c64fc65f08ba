-- unlock: takes the lease away from whoever has it, an operator's last resort. The fence grows, so that the former
-- owner's commit is refused; the record stays where it is.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] nonce, echoed in the reply
--
-- Replies
--   OK      nonce
--   GONE    nonce: there is no record; a stray lock was deleted
--   DONE    nonce: the record is finished; a stray lock was deleted
--   DAMAGED nonce, what is wrong
--
-- Safe to repeat: yes, though each time takes the lease away from whoever has it then.
-- redis.call: 3 (HMGET, DEL, HSET).
local nonce = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'v', 'token', 'fence', 'recovery_point')
if r.err then
  return {'DAMAGED', nonce, r.err}
end
local fence = tonumber(r[3] or '0')
if r[1] and (r[1] ~= '1' or not fence) then
  return {'DAMAGED', nonce, 'unknown schema version, or fence is not a number'}
end
redis.call('DEL', KEYS[2])
if not r[1] then
  return {'GONE', nonce}
end
if r[4] == 'finished' then
  return {'DONE', nonce}
end
local guard = string.format('%.0f', fence + 1)
if r[2] and r[2] ~= '' then
  redis.call('HSET', KEYS[1], 'token', '', 'spent', r[2], 'fence', guard)
else
  redis.call('HSET', KEYS[1], 'fence', guard)
end
return {'OK', nonce}
