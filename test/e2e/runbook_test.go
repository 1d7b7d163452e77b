//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// notHere are commands of runbooks that this cluster cannot run, with the reason.
var notHere = map[string]string{
	"kubectl -n caly-system top pods": "the cluster has no metrics API",
}

// followRunbook runs each command of the diagnosis in an alert's runbook, as it is written, while the alert fires. A command
// that fails or prints nothing does not help the person who follows the page.
func (x *tenant) followRunbook(t *testing.T, alert string) {
	t.Helper()
	for _, command := range diagnosis(t, alert) {
		if notHere[command] != "" {
			continue
		}
		// The pages say acme/support for the Tenant.
		written := strings.ReplaceAll(command, "-n acme ", "-n "+x.ns+" ")
		halfMinute.Reaches(t, "docs/runbooks/"+alert+".md: the command prints something: "+written,
			func(ctx context.Context) (bool, string) {
				out, err := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", written).CombinedOutput()
				if err == nil && len(out) > 0 {
					t.Logf("%s\n%s", written, shorten(string(out)))
				}
				return err == nil && len(out) > 0, fmt.Sprintf("%v: %s", err, shorten(string(out)))
			})
	}
}

// shorten returns the last lines of an output.
func shorten(out string) string {
	const most = 600
	return out[max(len(out)-most, 0):]
}

// diagnosis returns the commands of a page.
func diagnosis(t *testing.T, alert string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/runbooks/" + alert + ".md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Diagnosis\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, found := strings.Cut(section, "```bash\n")
	block, _, ended := strings.Cut(block, "\n```")
	if !found || !ended {
		t.Fatalf("docs/runbooks/%s.md has no commands under Diagnosis", alert)
	}
	return strings.Split(strings.ReplaceAll(block, "\\\n", " "), "\n")
}
