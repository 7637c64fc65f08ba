-- completerlimit: lets a completer work on a key if no more than a number of keys of its scope, and
-- of its flow, are worked on by completers at once, in whichever process.
--
-- KEYS[1] running: a sorted set of the keys of a flow that completers work on, each as the part of
--         its name that stands for its scope, a space, and the nonce of the call that admitted it.
--         The score is the time in milliseconds until which that counts
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the part of the key's name that stands for its scope
-- ARGV[3] at most how many keys of a scope, 0 for any number
-- ARGV[4] at most how many keys of the flow, 0 for any number
-- ARGV[5] how long the admission counts, in milliseconds
--
-- Replies
--   OK      nonce: the key is admitted, or the admission counts for the full time again
--   FULL    nonce, 1 if the flow has its number, 0 if only the scope has
--   DAMAGED nonce; what is wrong: the key is not a sorted set
--
-- Safe to repeat: yes. The nonce names the admission.
-- redis.call: 2 for FULL (TIME, ZRANGEBYSCORE), else 5 (also ZREMRANGEBYSCORE, ZADD, PEXPIRE)
-- or 6 (PEXPIRE twice).
local nonce, scope = ARGV[1], ARGV[2]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local running = redis.pcall('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
if running.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. running.err
end
local me = scope .. ' ' .. nonce
local ofScope, ofFlow = 0, 0
for _, member in ipairs(running) do
  if member ~= me then
    ofFlow = ofFlow + 1
    if string.sub(member, 1, #scope) == scope then
      ofScope = ofScope + 1
    end
  end
end
local perScope, perFlow = tonumber(ARGV[3]), tonumber(ARGV[4])
if perFlow > 0 and ofFlow >= perFlow then
  return 'FULL ' .. nonce .. ' 1'
elseif perScope > 0 and ofScope >= perScope then
  return 'FULL ' .. nonce .. ' 0'
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[5]), me)
if redis.call('PEXPIRE', KEYS[1], ARGV[5], 'GT') == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[5], 'NX') -- GT never changes a key without a TTL
end
return 'OK ' .. nonce
