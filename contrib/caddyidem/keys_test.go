package caddyidem_test

import (
	"net/http"
	"sync/atomic"
	"testing"
)

func TestKeysComeFromOtherPlaces(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient+"key_from header X-Key\nkey_from query key\nkey_from body /id\nkey_prefix hook-\noptional\n")
	for _, c := range []struct {
		path, header, body, want string
		replayed                 bool
	}{
		{"/", "a", "", "1: ", false},
		{"/", "a", "", "1: ", true},
		{"/?key=b", "", "", "2: ", false},
		{"/?key=b", "", "", "2: ", true},
		{"/", "", `{"id":"c"}`, `3: {"id":"c"}`, false},
		{"/", "", `{"id":"c"}`, `3: {"id":"c"}`, true},
		{"/", "", `{}`, `4: {}`, false},
		{"/", "", `{}`, `5: {}`, false},
	} {
		var fields []string
		if c.header != "" {
			fields = []string{"X-Key", c.header}
		}
		status, header, body := s.post(c.path, "", c.body, fields...)
		if status != http.StatusCreated || body != c.want || (header.Get("Idempotency-Replayed") == "true") != c.replayed {
			t.Errorf("%+v: %d %v %q", c, status, header, body)
		}
	}
	if err := s.load(byClient + "key_from header X-Key\nkey_prefix other-\n"); err != nil {
		t.Fatal(err)
	}
	if _, _, body := s.post("/", "", "", "X-Key", "a"); body != "6: " {
		t.Errorf("under another prefix the answer is %q", body)
	}
}

func TestKeysOfAForm(t *testing.T) {
	var n atomic.Int64
	s := start(t, counting(&n), byClient+"keys uuid\nstrict\npublish_retention\n")
	const uuid = "8c0eb4f5-7e0f-4f4c-9d63-4f0f7a5a9c39"
	for key, want := range map[string]int{`"k"`: 400, uuid: 400, `"` + uuid + `"`: 201} {
		if status, header, body := s.post("/", key, ""); status != want || want == 201 && header.Get("Idempotency-Retention") != "86400" {
			t.Errorf("%s: %d %v %s", key, status, header, body)
		}
	}
	if err := s.load(byClient + "key_window 1h\n"); err != nil {
		t.Fatal(err)
	}
	if status, _, body := s.post("/", uuid, ""); status != 400 {
		t.Errorf("a key without its time: %d %s", status, body)
	}
}

func TestKeepSaysWhatIsStored(t *testing.T) {
	var n, answer atomic.Int64
	status := http.StatusUnauthorized
	answer.Store(int64(status))
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.Header().Set("X-Order", "7")
		w.WriteHeader(int(answer.Load()))
	}), byClient+"keep all\nheaders X-Order\n")
	for i := range 2 {
		if got, header, _ := s.post("/", "k", ""); got != status || header.Get("X-Order") != "7" || (header.Get("Idempotency-Replayed") == "true") != (i > 0) {
			t.Errorf("%d: %d %v", i, got, header)
		}
	}
	if err := s.load(byClient + "keep 2xx 402\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		status int
		runs   int64
	}{{http.StatusNotFound, 2}, {http.StatusPaymentRequired, 1}} {
		status = want.status
		answer.Store(int64(status))
		n.Store(0)
		for range 2 {
			if got, _, body := s.post("/", http.StatusText(status)[:3], ""); got != status {
				t.Errorf("%d: %d %s", status, got, body)
			}
		}
		if n.Load() != want.runs {
			t.Errorf("%d ran %d times, want %d", status, n.Load(), want.runs)
		}
	}
}
