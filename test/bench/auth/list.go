package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// selectCalls is the statement of internal/store/calls.go for a page of a tenant's calls. One row more tells whether
// there are others.
var selectCalls = fmt.Sprintf(
	`SELECT call_sid, state, direction, from_number, to_number, started_at, ended_at, conversation_seconds,
		custom_field, created_at, updated_at
FROM %%s WHERE tenant = '%s' ORDER BY created_at DESC, call_sid DESC LIMIT %d;
`,
	tenantID, pageSize+1,
)

// scripts of pgbench: the statement alone, on a copy of the table that no policy guards, and bound to its tenant as
// the data plane sends it.
func scripts() map[string]string {
	return map[string]string{
		"plain": fmt.Sprintf(strings.ReplaceAll(selectCalls, "\n", " ")+"\n", "bench_calls"),
		"bound": "\\startpipeline\nSELECT set_config('caly.tenant', '" + tenantID + "', true);\n" +
			fmt.Sprintf(strings.ReplaceAll(selectCalls, "\n", " ")+"\n", "calls") + "\\endpipeline\n",
	}
}

// measureList compares lists through the API with pgbench reading their rows over as many connections.
func (r *rig) measureList(ctx context.Context) ([]ratio, error) {
	for name, script := range scripts() {
		if err := os.WriteFile(filepath.Join(r.dir, name+".sql"), []byte(script), 0o600); err != nil {
			return nil, err
		}
	}
	var ours, plain, bound []float64
	for round := range r.o.rounds + 1 {
		o, err := r.busy(ctx, r.o.duration()/2)
		if err != nil {
			return nil, err
		}
		p, err := r.runPgbench(ctx, "plain", r.o.dsnOwner)
		if err != nil {
			return nil, err
		}
		b, err := r.runPgbench(ctx, "bound", r.o.dsnDataplane)
		if err != nil {
			return nil, err
		}
		fmt.Printf(
			"round %d, %d clients     lists of %d calls %6.0f/s   pgbench SELECT %6.0f/s, with set_config and "+
				"row-level security %6.0f/s\n",
			round, len(r.tokens), pageSize, o, p, b,
		)
		if round > 0 {
			ours, plain, bound = append(ours, o), append(plain, p), append(bound, b)
		}
	}
	return []ratio{
		{"auth.list_vs_pgbench_select", over(ours, plain), 3},
		{"auth.list_vs_pgbench_bound_select", over(ours, bound), 3},
	}, nil
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

func (r *rig) runPgbench(ctx context.Context, script, dsn string) (rate float64, err error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return 0, err
	}
	password, _ := u.User.Password() // goes through the environment
	cmd := exec.CommandContext(
		ctx,
		r.o.pgbench,
		"-n",
		"-M",
		"prepared",
		"-c",
		strconv.Itoa(len(r.tokens)),
		"-j",
		"2",
		"-T",
		strconv.Itoa(max(r.o.seconds/2, 1)),
		"-f",
		filepath.Join(r.dir, script+".sql"),
		"-h",
		u.Hostname(),
		"-p",
		u.Port(),
		"-U",
		u.User.Username(),
		strings.TrimPrefix(u.Path, "/"),
	)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	out, err := cmd.CombinedOutput()
	found := tps.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, fmt.Errorf("pgbench, %s: %w: %s", script, err, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
