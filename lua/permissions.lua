-- permissions: reports which commands the Redis user may not run. It changes nothing.
--
-- KEYS[1] left out, so that each server of a cluster answers for itself
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2...] commands with their arguments, separated by spaces
--
-- Replies
--   OK nonce; the numbers, counted from 0, of the commands that are not permitted or that the
--      server does not know; empty on a server that cannot check rights
--
-- Safe to repeat: yes.
-- redis.call: none.
local nonce = ARGV[1]

local missing = {}
for i = 2, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do
    words[#words + 1] = word
  end
  if redis.acl_check_cmd then
    -- It raises an error for a command that the server does not have, for instance because it was
    -- renamed.
    local known, permitted = pcall(redis.acl_check_cmd, unpack(words))
    if not known or not permitted then
      missing[#missing + 1] = tostring(i - 2)
    end
  end
end
return 'OK ' .. nonce .. ' ' .. table.concat(missing, ' ')
