-- resume: ends the pause of a flow or of a version of it, and wakes the completers of the flow.
--
-- KEYS[1] turns: see pause.lua
-- KEYS[2] resumes: a hash with the time in microseconds at which each flow or version was last
--         resumed. Completers do not count the time before it as time in which nothing was done.
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the flow, as it was paused
-- ARGV[3] the flow's name, which is the name of its turn
-- ARGV[4] how long the resumes are kept after the last one, in milliseconds
--
-- Replies
--   OK      nonce
--   GONE    nonce: there is no such pause
--   DAMAGED nonce; what is wrong: a key is not a hash
--
-- Safe to repeat: yes. The second time there is no such pause.
-- redis.call: 7 (HGET twice, TIME, HSET, PEXPIRE, HDEL, and HSET, or PEXPIRE after the last pause);
-- 1 for GONE (HGET).
local nonce, flow = ARGV[1], ARGV[2]

local pauses = redis.pcall('HGET', KEYS[1], '#')
if type(pauses) == 'table' and pauses.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. pauses.err
end
local others, found = '', false
for line in string.gmatch(pauses or '', '[^\n]+\n') do
  if string.match(line, '^[^\t]+') == flow then
    found = true
  else
    others = others .. line
  end
end
if not found then
  return 'GONE ' .. nonce
end
local resumed = redis.pcall('HGET', KEYS[2], flow)
if type(resumed) == 'table' and resumed.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. resumed.err
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], flow, time[1] .. string.rep('0', 6 - #time[2]) .. time[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
if others == '' then
  redis.call('HDEL', KEYS[1], '#', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], '60000') -- see turn.lua
else
  redis.call('HDEL', KEYS[1], ARGV[3])
  redis.call('HSET', KEYS[1], '#', others)
end
return 'OK ' .. nonce
