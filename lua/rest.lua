-- rest: remembers the result of a scan of all shards, so that no process scans the flow again
-- before a key can be due.
--
-- KEYS[1] turns: see turn.lua
-- ARGV[1] nonce of the call that took the turn   ARGV[2] server time of that call, in milliseconds
-- ARGV[3...] for each flow: its name; the lowest score that the scan left, '-' for none
--
-- Replies
--   OK      nonce
--   DAMAGED nonce; what is wrong: the key is not a hash
--
-- Safe to repeat: yes. It changes nothing if the turn was another process's since, or was taken
-- away because a key became due meanwhile.
-- redis.call: 1 (HMGET), 2 more when it is still the caller's turn (HSET, PEXPIRE). No PEXPIRE
-- while a flow is paused.
local nonce = ARGV[1]

local flows = {}
for i = 3, #ARGV, 2 do
  flows[#flows + 1] = ARGV[i]
end
flows[#flows + 1] = '#'
local turns = redis.pcall('HMGET', KEYS[1], unpack(flows))
if turns.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. turns.err
end
local pauses = turns[#flows]
flows[#flows] = nil
local fields = {}
for i, flow in ipairs(flows) do
  local ends, owner = string.match(turns[i] or '', '^(%d+) (%S+) ')
  if owner == nonce then
    fields[#fields + 1] = flow
    fields[#fields + 1] = ends .. ' ' .. nonce .. ' ' .. ARGV[2] .. ' ' .. ARGV[2 * i + 2]
  end
end
if #fields > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
  if not pauses then
    redis.call('PEXPIRE', KEYS[1], '60000')
  end
end
return 'OK ' .. nonce
