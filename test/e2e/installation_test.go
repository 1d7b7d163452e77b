//go:build e2e

package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestHelmTest runs the chart's own test, under its NetworkPolicies.
func TestHelmTest(t *testing.T) {
	said, err := exec.Command(
		"helm", "test", "caly", "--namespace", releaseNamespace, "--logs", "--timeout", "3m",
	).CombinedOutput()
	if err != nil || strings.Count(string(said), "ok: ") != 5 {
		t.Errorf("helm test: %v\n%s", err, said)
	}
}
