-- due: hands out keys of a shard whose flow a completer may continue. Each of them is put off in
-- the same step. No other completer gets it meanwhile, and it comes back if this completer dies.
-- The completer takes turns between scopes, which the first 4 characters of a record's name stand
-- for, so it can leave out those of which it has enough keys.
--
-- KEYS[1] due index
-- ARGV[1] nonce, echoed in the reply   ARGV[2] maximum number of keys
-- ARGV[3] how long to put them off, in milliseconds
-- ARGV[4] how long a record lives at most, in milliseconds
-- ARGV[5] the last number of this scan's previous reply: keys that became due since are left to the
--         next scan; '' for the first call of a scan
-- ARGV[6] at most how many keys of one scope
-- ARGV[7] the scopes to leave out, joined; '' for none
--
-- Replies
--   OK        nonce, the score until which the keys are put off, the time at which they must have
--           been due, the lowest score that the index has now; '-' when it is empty; the ends of
--           the records' names
--   DAMAGED nonce; what is wrong: the key does not hold an index
--
-- Safe to repeat: yes. Keys in a lost reply come back when the time they were put off for is over.
-- The index is a hint, and the record is the truth.
-- redis.call: 4 when no key is due (TIME, ZRANGEBYSCORE, PTTL, ZRANGE), 1 more for each key that is
-- handed out (ZADD), and sometimes 1 more (PEXPIRE). With scopes to leave out it looks at up to
-- 1024 due keys, with 1 more for each 256 of them behind the first (ZRANGEBYSCORE).
local nonce = ARGV[1]

-- Joins texts in pieces, since some Lua interpreters join no more than a few thousand at once.
local function join(list, between)
  local joined = table.concat(list, between, 1, math.min(#list, 1000))
  for i = 1001, #list, 1000 do
    joined = joined .. between .. table.concat(list, between, i, math.min(i + 999, #list))
  end
  return joined
end

-- Returns a reply with texts: a line with their lengths, without the last one, and the texts.
local function texts(first, list)
  local lengths = {}
  for i = 1, #list - 1 do
    lengths[i] = #list[i]
  end
  return first .. '\n' .. join(lengths, ' ') .. '\n' .. join(list, '')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bound = string.format('%.0f', math.min(now, tonumber(ARGV[5]) or now))
local most, share = tonumber(ARGV[2]), tonumber(ARGV[6])
local count = {} -- the keys of each scope; the scopes to leave out have their share already
for scope in string.gmatch(ARGV[7], '....') do
  count[scope] = share
end
local page = (share < most or ARGV[7] ~= '') and 256 or most
local due, looked, found = {}, 0, nil
repeat
  found = redis.pcall('ZRANGEBYSCORE', KEYS[1], '-inf', bound, 'LIMIT', looked, page)
  if found.err then
    return 'DAMAGED ' .. nonce .. '\n\n' .. found.err
  end
  for _, member in ipairs(found) do
    local scope = string.sub(member, 1, 4)
    local n = count[scope] or 0
    if n < share and #due < most then
      count[scope] = n + 1
      due[#due + 1] = member
    end
  end
  looked = looked + #found
until #due == most or #found < page or looked >= 1024
local aside = string.format('%.0f', now + ARGV[3])
for _, member in ipairs(due) do
  redis.call('ZADD', KEYS[1], aside, member)
end
-- Calls that do not know the flow extend the record and not the index. The index stays while a
-- completer scans it.
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left * 2 < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
local first = redis.call('ZRANGE', KEYS[1], '0', '0', 'WITHSCORES')[2]
first = first and string.format('%.0f', tonumber(first)) or '-'
if #due == 0 then
  return 'OK ' .. nonce .. ' ' .. aside .. ' ' .. bound .. ' ' .. first
end
return texts('OK ' .. nonce .. ' ' .. aside .. ' ' .. bound .. ' ' .. first, due)
