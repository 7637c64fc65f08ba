package idemclient_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestClientLinksNoRedis checks that a program which imports only this package gets neither a Redis
// client nor the server side.
func TestClientLinksNoRedis(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		for _, refused := range []string{"go-redis", "redislock", "otter", "github.com/redisidem/redisidem/lua"} {
			if strings.Contains(pkg, refused) {
				t.Errorf("package idemclient links %s", pkg)
			}
		}
		if pkg == "github.com/redisidem/redisidem/redisidem" {
			t.Errorf("package idemclient links the server side, %s", pkg)
		}
	}
}
