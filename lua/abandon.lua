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
-- redis.call: 4 (HMGET, HSET, GET, DEL), without HSET when the record is absent, finished or knows already.
local token = ARGV[1]

local r = redis.pcall('HMGET', KEYS[1], 'v', 'token', 'spent', 'recovery_point')
if redis.call('GET', KEYS[2]) == token then
  redis.call('DEL', KEYS[2])
end
if r.err then
  return {'DAMAGED', token, r.err}
end
if r[2] == token then
  redis.call('HSET', KEYS[1], 'token', '', 'spent', token)
elseif r[1] == '1' and r[3] ~= token and r[4] ~= 'finished' then
  redis.call('HSET', KEYS[1], 'spent', token)
end
return {'OK', token}
