-- Refuses what TensorFlow Serving's JSON parser does not survive, before the server sees a byte of the request.
--
-- The parser recurses: 100,000 nested brackets end the process with SIGSEGV. A size limit alone cannot help, as a good
-- request (audio in base64) is larger than that. So the body is read once and brackets outside strings are counted.
-- What is no JSON outside strings (a comment, say, in which a quote would mislead the count) is refused as well.

local MAX_DEPTH = 32          -- a request of audio or examples needs 4
local MAX_VALUES = 2000000    -- the parser takes some 16-32 bytes of memory a value; a clip as numbers has 465,600
local CHUNK = 65536

local byte, find = string.byte, string.find
local QUOTE, BACKSLASH, COMMA = byte('"'), byte("\\"), byte(",")

-- 1 opens, 2 closes, 3 separates, 4 is part of a number, a word or white space; nil must not be there.
local KINDS = {}
for character in (" \t\r\n0123456789+-.:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"):gmatch(".") do
  KINDS[byte(character)] = 4
end
KINDS[byte("[")], KINDS[byte("{")] = 1, 1
KINDS[byte("]")], KINDS[byte("}")] = 2, 2
KINDS[COMMA] = 3

local function refuse(status, words)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.say('{"error": "' .. words .. '"}')
  return ngx.exit(status)
end

-- Chunks of the body, from memory or from the file that nginx put a larger one into.
local function body_chunks()
  local data = ngx.req.get_body_data()
  if data then
    return function()
      local chunk = data
      data = nil
      return chunk
    end
  end
  local path = ngx.req.get_body_file()
  if not path then
    return function() end
  end
  local file = assert(io.open(path, "rb"))
  return function()
    local chunk = file:read(CHUNK)
    if not chunk then
      file:close()
    end
    return chunk
  end
end

local function check_body()
  local depth, values, inside_string, escaped = 0, 0, false, false
  for chunk in body_chunks() do
    local position, length = 1, #chunk
    while position <= length do
      if inside_string then
        if escaped then
          escaped = false
          position = position + 1
        else
          local at = find(chunk, '["\\]', position)
          if not at then
            break
          end
          if byte(chunk, at) == QUOTE then
            inside_string = false
          else
            escaped = true
          end
          position = at + 1
        end
      else
        local character = byte(chunk, position)
        if character == QUOTE then
          inside_string = true
        else
          local kind = KINDS[character]
          if kind == 1 then
            depth = depth + 1
            values = values + 1
            if depth > MAX_DEPTH then
              return "brackets nested deeper than " .. MAX_DEPTH
            end
          elseif kind == 2 then
            depth = depth - 1
          elseif kind == 3 then
            values = values + 1
            if values > MAX_VALUES then
              return "more than " .. MAX_VALUES .. " values: send audio as base64 (signatures pcm and wav)"
            end
          elseif kind == nil then
            return "not JSON: byte " .. character .. " outside a string"
          end
        end
        position = position + 1
      end
    end
  end
end

local encoding = ngx.req.get_headers(0)["Content-Encoding"]
if encoding and encoding ~= "identity" then
  return refuse(415, "Content-Encoding is not taken here: send the body as it is")
end
ngx.req.read_body()
local wrong = check_body()
if wrong then
  return refuse(400, "The request was refused before it reached the model server: " .. wrong)
end
