package tcpproxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestAnswersAreLostAfterTheServerHasWorked(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		runs.Add(1)
		_, _ = w.Write([]byte("answer"))
	}))
	defer server.Close()
	p := Start(t, server.Listener.Addr().String())
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	post := func() (int, error) {
		res, err := client.Post("http://"+p.Addr(), "text/plain", strings.NewReader("x")) //nolint:noctx // a test
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	p.Lose(2)
	for i := range 4 {
		status, err := post()
		if lost := i < 2; (err != nil) != lost || !lost && status != http.StatusOK {
			t.Errorf("request %d: %d, %v", i, status, err)
		}
	}
	if runs.Load() != 4 || p.Lost() != 2 {
		t.Errorf("the server has run %d requests, and %d answers were lost", runs.Load(), p.Lost())
	}
}

func TestServerThatIsAwayBreaksTheConnection(t *testing.T) {
	t.Parallel()
	p := Start(t, "127.0.0.1:1")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if res, err := client.Get("http://" + p.Addr()); err == nil { //nolint:noctx // a test
		_ = res.Body.Close()
		t.Error("a request was answered")
	}
}

func TestCutBreaksARequestInFlight(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(began)
		<-release
	}))
	defer server.Close()
	defer close(release)
	p := Start(t, server.Listener.Addr().String())
	go func() {
		<-began
		p.Cut()
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Post("http://"+p.Addr(), "text/plain", strings.NewReader("x")) //nolint:noctx // a test
	if err == nil {
		_ = res.Body.Close()
		t.Error("the request was answered")
	}
}
