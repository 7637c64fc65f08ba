package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/redisidem/redisidem/cmd/bench/internal/result"
)

// thin is a narrow no-break space.
const thin = "\u202f"

// count formats a whole number with a separator between thousands.
func count(f float64) string {
	digits := strconv.FormatFloat(math.Abs(f), 'f', 0, 64)
	var b strings.Builder
	if f < 0 && digits != "0" {
		b.WriteString("−")
	}
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteString(thin)
		}
		b.WriteRune(d)
	}
	return b.String()
}

// perSecond formats a number of operations per second.
func perSecond(f float64) string { return count(f) + thin + "/s" }

// number formats a number with its significant digits.
func number(f float64) string {
	switch a := math.Abs(f); {
	case a >= 100 || a == math.Trunc(a):
		return count(f)
	case a >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	default:
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
}

// micros formats a duration in microseconds.
func micros(us float64) string {
	switch {
	case us < 999.5:
		return number(us) + thin + "µs"
	case us < 999.5e3:
		return number(us/1e3) + thin + "ms"
	default:
		return number(us/1e6) + thin + "s"
	}
}

// size formats a number of bytes.
func size(b float64) string {
	switch {
	case b >= 1<<20:
		return short(b/(1<<20)) + thin + "MiB"
	case b >= 1<<10:
		return short(b/(1<<10)) + thin + "KiB"
	default:
		return number(b) + thin + "B"
	}
}

// times formats a ratio.
func times(f float64) string { return number2(f) + thin + "×" }

// number2 formats a number with two decimals, or without decimals if it is large.
func number2(f float64) string {
	if math.Abs(f) >= 100 {
		return count(f)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

// short formats a number of an axis without trailing zeros.
func short(f float64) string {
	if f == math.Trunc(f) {
		return count(f)
	}
	return strconv.FormatFloat(f, 'g', 3, 64)
}

// around formats half the range of a spread, in percent of its median.
func around(s result.Spread) string {
	if s.Median == 0 {
		return ""
	}
	return fmt.Sprintf("±%s%.0f%s%%", thin, 50*(s.High-s.Low)/s.Median, thin)
}
