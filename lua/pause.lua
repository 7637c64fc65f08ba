-- pause: keeps completers, and clients if asked, from running a flow or a version of it.
--
-- KEYS[1] turns: see turn.lua. The field '#' has a line for each pause: the flow; '1' if it is for
--         clients too, else '0'; since when, in microseconds; who paused it; why. A tab separates
--         them, and each line ends with a line break.
-- ARGV[1] nonce, echoed in the reply   ARGV[2] the flow: its name or name/version
-- ARGV[3] '1' if the pause is for clients too, else '0'   ARGV[4] who pauses it   ARGV[5] why
-- ARGV[6] how many pauses there can be
--
-- Replies
--   OK      nonce
--   FULL    nonce: there are too many pauses
--   DAMAGED nonce; what is wrong: the key is not a hash
--
-- Safe to repeat: yes. A flow that is paused already stays paused since the same time.
-- redis.call: 4 (HGET, TIME, DEL, HSET); 1 for FULL (HGET).
local nonce, flow = ARGV[1], ARGV[2]

local pauses = redis.pcall('HGET', KEYS[1], '#')
if type(pauses) == 'table' and pauses.err then
  return 'DAMAGED ' .. nonce .. '\n\n' .. pauses.err
end
local others, count, since = '', 0, nil
for line in string.gmatch(pauses or '', '[^\n]+\n') do
  local name, at = string.match(line, '^([^\t]+)\t%d\t(%d+)\t')
  if name == flow then
    since = at
  else
    others, count = others .. line, count + 1
  end
end
if count >= tonumber(ARGV[6]) then
  return 'FULL ' .. nonce
end
local time = redis.call('TIME')
since = since or time[1] .. string.rep('0', 6 - #time[2]) .. time[2]
-- A new hash does not expire. The turns that are lost with the old one are a hint.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], '#', others .. flow .. '\t' .. ARGV[3] .. '\t' .. since .. '\t' .. ARGV[4] .. '\t' .. ARGV[5] .. '\n')
return 'OK ' .. nonce
