package effect

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

func TestEffectsSurviveJSON(t *testing.T) {
	t.Parallel()
	for _, e := range []Effect{
		Set("k\xff", "v\x00\xfe").Expire(time.Minute),
		IncrBy("k", -7),
		HSet("k", "f", "v"),
		SAdd("k", "a", "b"),
		ZAdd("k", 1.5, "m"),
		LPush("k", "a", "b"),
		XAdd("k", "f", "v").MaxLen(10).Expire(time.Hour),
		Publish("c", "m"),
	} {
		b, err := json.Marshal(e)
		if err != nil {
			t.Errorf("%s: %v", e.Command(), err)
			continue
		}
		var got Effect
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %s became %+v, %v", e.Command(), b, got, err)
		}
	}
}

func TestInvalidEffectsHaveNoJSON(t *testing.T) {
	t.Parallel()
	for _, e := range []Effect{{}, SAdd("k"), Set("k", "v").MaxLen(1)} {
		if b, err := json.Marshal(e); err == nil {
			t.Errorf("%+v became %s", e, b)
		}
	}
	for _, text := range []string{`{}`, `{"command":"FLUSHALL","key":"aw=="}`, `{"command":"SADD","key":"aw==","words":[],"expires":true}`, `7`} {
		var e Effect
		if err := json.Unmarshal([]byte(text), &e); err == nil || !reflect.DeepEqual(e, Effect{}) {
			t.Errorf("%s became %+v, %v", text, e, err)
		}
	}
}
