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
--   DAMAGED nonce; what is wrong
--
-- Safe to repeat: yes, though each time takes the lease away from whoever has it then.
-- redis.call: 3 (HMGET, DEL, HSET), two more when somebody waits (HDEL, PUBLISH).
local nonce = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'waiting')
if r.err then
  return {'DAMAGED ' .. nonce, r.err}
end
local revision, owner, fence, rest, spent
if r[1] then
  revision, owner, fence, rest, spent = string.match(r[1], '^1 (%d+) (%S+) (%d+) (%d+ %d+ %d+) (%S+)$')
  if not revision then
    return {'DAMAGED ' .. nonce, 'unknown schema version, or control cannot be read'}
  end
end
redis.call('DEL', KEYS[2])
if not r[1] then
  return {'GONE ' .. nonce}
end
if r[2] == 'finished' then
  return {'DONE ' .. nonce}
end
if owner ~= '-' then
  spent = owner
end
redis.call('HSET', KEYS[1], 'control', '1 ' .. revision .. ' - ' .. string.format('%.0f', fence + 1) .. ' ' .. rest .. ' '
  .. spent)
if r[3] then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[3], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
return {'OK ' .. nonce}
