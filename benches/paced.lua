-- For wrk: so many requests a second (the first argument), as long as there is a connection that has been answered.
local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } rfm_time;
    int clock_gettime(int clock, rfm_time *time);
]]
local time = ffi.new("rfm_time")
local step, due

local function now() -- in milliseconds, of the monotonic clock
    ffi.C.clock_gettime(1, time)
    return tonumber(time.seconds) * 1e3 + tonumber(time.nanoseconds) / 1e6
end

function init(arguments)
    step, due = 1e3 / tonumber(arguments[1]), now()
end

function delay() -- until the next request, in milliseconds
    due = math.max(due + step, now() - 1e3)
    return math.floor(math.max(0, due - now()) + 0.5)
end
