-- rights: tells which commands the user that runs it may not run. It changes nothing.
--
-- KEYS[1] a key of the kind that the commands are for
-- ARGV[1] nonce, echoed in the reply
-- ARGV[2...] commands with their arguments, separated by spaces; "key" stands for KEYS[1]
--
-- Replies
--   OK nonce; the names of those commands that are not permitted; none on a server that cannot tell
--
-- Safe to repeat: yes.
-- redis.call: none.
local nonce = ARGV[1]

local missing = {}
for i = 2, #ARGV do
  local words = {}
  for word in string.gmatch(ARGV[i], '%S+') do
    if word == 'key' then
      word = KEYS[1]
    end
    words[#words + 1] = word
  end
  if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(words)) then
    missing[#missing + 1] = words[1]
  end
end
return {'OK ' .. nonce, unpack(missing)}
