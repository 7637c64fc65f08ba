package console

import (
	"testing"
	"time"
)

func TestFormats(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 12, 0, 0, 5_000_000, time.FixedZone("x", 3600))
	for got, want := range map[string]string{
		span(-time.Second): "-1s", span(1500 * time.Microsecond): "2ms", span(59 * time.Second): "59s", span(61 * time.Second): "1m1s",
		span(2 * time.Hour): "2h", span(49*time.Hour + time.Minute): "2d1h",
		clock(at): "2026-11-01 11:00:00.005", after(at, at.Add(time.Second)): "0s", after(at.Add(time.Minute), at): "1m",
		shown("a b"): "a b", shown("a\nb"): `"a\nb"`, shown("\xff"): `"\xff"`,
		number(999): "999", number(-1234567): "-1\u202f234\u202f567", number(1000): "1\u202f000",
		took(0): "", took(123): "123ns", took(1_234_567): "1.23ms", took(61_234_567_890): "1m1.2s", rate(0.25): "0.2",
		count(1, "key"): "1 key", count(0, "key"): "0 keys", count(1234, "key"): "1\u202f234 keys",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
