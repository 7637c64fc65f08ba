-- abandon: ends an attempt without a result. The token is remembered as spent, also when this arrives before the
-- claim it belongs to: the claim is then refused.
--
-- KEYS[1] record   KEYS[2] lock
-- ARGV[1] token
--
-- Replies
--   OK token
--   DAMAGED token, what is wrong
--
-- Safe to repeat: yes. An absent record stays absent, a finished one stays as it is.
-- redis.call: 4 (HMGET, GET, DEL, HSET), without HSET when the record is absent, finished or knows already; two more
-- when somebody waits (HDEL, PUBLISH).
local token = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'control', 'recovery_point', 'waiting')
local holder = redis.call('GET', KEYS[2])
if holder == token then
  redis.call('DEL', KEYS[2])
end
if r.err then
  return {'DAMAGED', token, r.err}
end
local revision, owner, rest, spent = string.match(r[1] or '', '^1 (%d+) (%S+) (%d+ %d+ %d+ %d+) (%S+)$')
if revision and spent ~= token and r[2] ~= 'finished' then
  if owner == token then
    owner = '-'
  end
  redis.call('HSET', KEYS[1], 'control', '1 ' .. revision .. ' ' .. owner .. ' ' .. rest .. ' ' .. token)
end
if r[3] and holder == token then
  redis.call('HDEL', KEYS[1], 'waiting')
  for channel in string.gmatch(r[3], '%S+') do
    redis.pcall('PUBLISH', channel, KEYS[1])
  end
end
return {'OK', token}
