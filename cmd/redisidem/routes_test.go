package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRoutesAddUpWhatGatewaysCounted has two gateways in front of one service, with routes of their
// own, and a client that uses one key for two requests.
func TestRoutesAddUpWhatGatewaysCounted(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, nil)
	config := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(config, []byte("routes: [{match: POST /v1/orders}, {match: POST /v2/orders}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	gateways := make([]*process, 2)
	for i := range gateways {
		gateways[i] = start(t, "", "--upstream", u.URL, "--scope", "unscoped", "--config", config)
		for _, path := range []string{"/v1", "/v1", "/v2"} {
			mustPost(t, gateways[i].url+path, "k")
		}
	}
	mustPost(t, gateways[0].url+"/v1", "another")
	all := command(t, "", "", "routes", gateways[0].admin, gateways[1].admin+"/")
	want := `ROUTE            RESULT    REQUESTS
POST /v1/orders  executed  3
POST /v1/orders  replayed  2
POST /v2/orders  mismatch  2
`
	if all != want {
		t.Errorf("it prints\n%s", all)
	}
	one := command(t, "", "", "routes", gateways[0].admin, "--result", "mismatch,in-flight", "-o", "json")
	if want := `{"route":"POST /v2/orders","result":"mismatch","requests":1}` + "\n"; one != want {
		t.Errorf("it prints\n%s", one)
	}
	for url, want := range map[string]string{
		gateways[0].url:      "give the URL of the admin listener",
		"http://127.0.0.1:1": "connection refused",
		"ftp://127.0.0.1":    "unsupported protocol",
	} {
		got := command(t, "", "", "routes", url)
		if !strings.HasPrefix(got, fmt.Sprintf("[standard error]\nredisidem: %s: ", url)) || !strings.Contains(got, want) || !strings.HasSuffix(got, "[exit status 1]\n") {
			t.Errorf("%s: it prints\n%s", url, got)
		}
	}
}
