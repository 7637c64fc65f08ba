-- turn: gives one process the turn to scan flows for due keys, unless a scan is not needed yet. It
-- decides about many flows in one step, because flows at rest must cost next to nothing.
--
-- KEYS[1] turns: a hash. Each field is a flow, with four words: when the turn ends; the nonce of
--         the call that took it; when a scan of all shards began that has ended, '0' for none; the
--         lowest score that this scan left, '-' for none. Times are in milliseconds. The field '#'
--         has the pauses: see pause.lua. The hash does not expire while there are any.
-- ARGV[1] nonce, echoed in the reply   ARGV[2] how long a turn lasts, in milliseconds
-- ARGV[3...] for each flow: its name; how long it takes at least until a key is due that was not in
--         the index yet, in milliseconds
--
-- Replies
--   OK      nonce, server time in milliseconds, number of flows whose turn it is, which is left
--           out if there are no texts; these flows, and the flows and versions that are paused. A
--           paused flow gets no turn
--   DAMAGED nonce; what is wrong: the key is not a hash
--
-- Safe to repeat: yes. The nonce names the turn.
-- redis.call: 2 when it is the turn of no flow (TIME, HMGET), else 4 (also HSET, PEXPIRE). No
-- PEXPIRE while a flow is paused.
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
local paused, isPaused = {}, {}
for flow in string.gmatch(pauses or '', '([^\t\n]+)\t[^\n]*\n') do
  paused[#paused + 1] = flow
  isPaused[flow] = true
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = string.format('%.0f', now)
local ends = string.format('%.0f', now + ARGV[2])
local mine, fields = {}, {}
for i, flow in ipairs(flows) do
  local last, owner, scanned, first = string.match(turns[i] or '', '^(%d+) (%S+) (%d+) (%S+)$')
  local free = true
  if last and owner ~= nonce then
    -- A turn that ends later than one of the caller would is not waited for.
    local left = last - now
    local rests = math.min(scanned + ARGV[2 * i + 2], tonumber(first) or math.huge)
    -- A scan in the future means that the clock was set back.
    free = (left <= 0 or left > tonumber(ARGV[2])) and (tonumber(scanned) > now or rests <= now)
  end
  if free and not isPaused[flow] then
    mine[#mine + 1] = flow
    fields[#fields + 1] = flow
    fields[#fields + 1] = ends .. ' ' .. nonce .. ' ' .. (scanned or '0') .. ' ' .. (first or '-')
  end
end
if #mine > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
  if not pauses then
    redis.call('PEXPIRE', KEYS[1], '60000') -- no turn and no rest lasts longer
  end
end
if #mine + #paused == 0 then
  return 'OK ' .. nonce .. ' ' .. at
end
local first = 'OK ' .. nonce .. ' ' .. at .. ' ' .. #mine
for _, flow in ipairs(paused) do
  mine[#mine + 1] = flow
end
return texts(first, mine)
