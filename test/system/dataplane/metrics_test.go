package dataplane

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/otlptest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
)

var update = flag.Bool(
	"update", false, "write the types and labels of metrics into docs/reference.md, and rows of new ones",
)

const reference = "../../../docs/reference.md"

// family is the type of a metric and the names of its labels.
type family struct {
	kind   string
	labels []string
	help   string
}

// withoutSeries are metrics that have no series here, and why.
var withoutSeries = map[string]string{
	"caly_webhook_oldest_waiting_timestamp_seconds":      "it has one while a webhook waits",
	"caly_mail_oldest_pending_timestamp_seconds":         "it has one while mail waits for a server",
	"caly_backfill_last_success_timestamp_seconds":       "it has one for a Tenant with backfill",
	"caly_keyring_signing_key_created_timestamp_seconds": "it has one once there is a keyring",
}

// rowsOfATenant gives each metric of tenants a series.
const rowsOfATenant = `
	INSERT INTO tenants (tenant) VALUES ('beta/sales');
	INSERT INTO recordings (tenant, id, call_sid, source_url) VALUES ('beta/sales', '00000000000000a1', 'c1', 'https://x/a');
	INSERT INTO recordings (tenant, id, call_sid, source_url, lease_owner, lease_until)
		VALUES ('beta/sales', '00000000000000a2', 'c1', 'https://x/b', 'pod', now() + interval '1 hour');
	INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, last_error, finished_by, created_at)
		VALUES ('beta/sales', '00000000000000a3', 'c1', 'https://x/c', 'failed', 1, 'x', 'pod', now());
	INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, object_key, sha256, finished_by, created_at)
		VALUES ('beta/sales', '00000000000000a4', 'c1', 'https://x/d', 'uploaded', 1, 'k', repeat('0', 64), 'pod', now());
	INSERT INTO calls (tenant, call_sid, state) VALUES ('beta/sales', 'c1', 1);
	INSERT INTO call_events (tenant, call_sid, kind, dedup_key, source, raw, dead_reason)
		VALUES ('beta/sales', 'c1', 'status', sha256('a'), 'webhook', '', 'stale');
	INSERT INTO captures (tenant, id, session, call_sid, pod, state, bucket, object_key, last_seen_at, finished_at)
		VALUES ('beta/sales', '00000000000000a5', gen_random_uuid(), 'c1', 'pod', 'failed', 'b', 'k', now(), now());
	INSERT INTO stream_sessions (tenant, id, call_sid, pod, last_seen_at, ended_at, end_reason)
		VALUES ('beta/sales', gen_random_uuid(), 'c1', 'pod', now(), now(), 'stop');
	INSERT INTO backfill_totals (tenant, result, calls) VALUES ('other', 'found', 1);`

// TestReferenceOfMetrics compares what running processes report with the table of docs/reference.md, in both directions.
// With -update it writes the table.
func TestReferenceOfMetrics(t *testing.T) {
	programs := reportingPrograms(t)
	if *update {
		writeMetrics(t, programs)
	}
	table := metricsTable(t)
	unseen := maps.Clone(table)
	for program, reported := range programs {
		if len(reported) < 5 {
			t.Errorf("%s reports %d metrics only", program, len(reported))
		}
		for name, got := range reported {
			delete(unseen, name)
			want, ok := table[name]
			if !ok {
				t.Errorf(
					"docs/reference.md does not list %s, which %s reports: run the test with -update", name, program,
				)
			} else if got.kind != want.kind || !slices.Equal(got.labels, want.labels) {
				t.Errorf("docs/reference.md lists %s as %s of %q, %s reports %s of %q: run the test with -update", name,
					want.kind, want.labels, program, got.kind, got.labels)
			}
		}
	}
	for name := range unseen {
		if withoutSeries[name] == "" {
			t.Errorf(
				"no program reports %s, which docs/reference.md lists: give it a series at zero, or remove its row",
				name,
			)
		}
	}
	for name := range withoutSeries {
		if _, ok := unseen[name]; !ok {
			t.Errorf("%s has a series now, or is not in docs/reference.md: remove it from withoutSeries", name)
		}
	}
}

// reportingPrograms starts each program, and returns the metrics that it reports.
func reportingPrograms(t *testing.T) map[string]map[string]family {
	t.Helper()
	pg := pgtest.New(t)
	pg.Exec(t, rowsOfATenant)
	traces := "--trace-endpoint=" + otlptest.New(t).URL
	dataPlane := calytest.NewDataPlane(t, pg)
	dataPlane.Args = append(dataPlane.Args, "--capture-dir="+t.TempDir(), traces)
	dataPlane.Run()
	internal := dataPlane.Internal
	scrape := func(address string) string {
		_, body := calytest.Fetch("http://" + address + "/metrics")
		return string(body)
	}
	operator := calytest.FreeAddress(t)
	calytest.Start(
		t,
		[]string{"KUBECONFIG=" + calytest.Kubeconfig(t), "CALY_DATABASE_URL=" + pg.OperatorDSN},
		"operator",
		"--health-probe-bind-address="+calytest.FreeAddress(t),
		"--metrics-bind-address="+operator,
		"--web-identity-audiences=sts.amazonaws.com",
	)
	upload := calytest.FreeAddress(t)
	calytest.Start(t, nil, "upload", "--config="+uploadConfig(t, pg, s3test.New(t)), "--idle-exit=10m",
		"--allow-http-storage", "--allowed-storage-cidrs=127.0.0.0/8", "--metrics-listen="+upload)
	for address, metric := range map[string]string{
		operator: "caly_tenants ",
		upload:   "caly_upload_bytes_total",
	} {
		eventually.Holds(t, metric+" is reported", func() bool { return strings.Contains(scrape(address), metric) })
	}
	return map[string]map[string]family{
		"data plane":    reportedMetrics(scrape(internal)),
		"operator":      reportedMetrics(scrape(operator)),
		"`caly upload`": reportedMetrics(scrape(upload)),
	}
}

// uploadConfig writes the config of an upload program of a tenant without recordings, and returns the path of the file.
func uploadConfig(t *testing.T, pg *pgtest.Server, s3 *s3test.Server) string {
	t.Helper()
	operator := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
	config, err := tenantconfig.EncodeUpload(tenantconfig.Upload{
		Version:     tenantconfig.Version,
		ID:          calytest.TenantID,
		ExotelKey:   "key",
		ExotelToken: "token",
		ExotelAPI:   "https://api.exotel.com",
		Storage:     *tenanttest.Storage(s3, s3.NewBucket(t)),
		KeyTemplate: "{{.CallSID}}-{{.RecordingID}}",
		DatabaseURL: secret.Sensitive(storetest.UploadDSN(t, operator, calytest.TenantID, "upload-password")),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// writeMetrics writes the types and labels of the metrics into the table. Words of a row are kept. A new metric gets a row
// with its help; a metric that no program has any more loses its name, or its row.
func writeMetrics(t *testing.T, programs map[string]map[string]family) {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	reported := map[string]family{}
	of := map[string]string{}
	for _, program := range slices.Sorted(maps.Keys(programs)) {
		for name, f := range programs[program] {
			reported[name] = f
			of[name] = strings.TrimPrefix(of[name]+", "+program, ", ")
		}
	}
	var lines []string
	last := 0
	known := metricsTable(t)
	for line := range strings.Lines(string(text)) {
		if isMetricRow(line) {
			line = rowOf(line, reported)
			last = len(lines) + 1
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(reported)) {
		if _, ok := known[name]; !ok {
			f := reported[name]
			row := fmt.Sprintf("| `%s` | %s |%s| %s | %s |\n", name, f.kind, labelCell(f.labels), of[name], f.help)
			lines = slices.Insert(lines, last, row)
		}
	}
	if err := os.WriteFile(reference, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rowOf returns a row with the types and labels of its metrics as they are reported. It is empty if no metric of the row
// exists.
func rowOf(row string, reported map[string]family) string {
	cells := strings.Split(row, "|")
	var names, kinds []string
	var labels []string
	for _, m := range metricName.FindAllStringSubmatch(cells[1], -1) {
		f, ok := reported[m[1]]
		switch {
		case ok:
			labels = f.labels
			kinds = append(kinds, f.kind)
		case withoutSeries[m[1]] != "":
			kinds = append(kinds, strings.TrimSpace(strings.Split(cells[2], ",")[0]))
			labels = sortedLabels(cells[3])
		default:
			continue
		}
		names = append(names, "`"+m[1]+"`")
	}
	if len(names) == 0 {
		return ""
	}
	if len(slices.Compact(slices.Clone(kinds))) == 1 {
		kinds = kinds[:1]
	}
	cells[1] = " " + strings.Join(names, ", ") + " "
	cells[2] = " " + strings.Join(kinds, ", ") + " "
	if !slices.Equal(sortedLabels(cells[3]), labels) {
		cells[3] = labelCell(labels)
	}
	return strings.Join(cells, "|")
}

// isMetricRow reports whether a line of the page is a row of the table of metrics.
func isMetricRow(line string) bool {
	return strings.HasPrefix(line, "| `caly_") && strings.Count(line, "|") >= 6
}

// labelCell returns the cell of a row for labels.
func labelCell(labels []string) string {
	if len(labels) == 0 {
		return " "
	}
	return " `" + strings.Join(labels, "`, `") + "` "
}

// metricName is a name in the table.
var metricName = regexp.MustCompile("`([a-z0-9_]+)`")

// sortedLabels returns the labels of a cell, sorted.
func sortedLabels(cell string) (labels []string) {
	for _, l := range metricName.FindAllStringSubmatch(cell, -1) {
		labels = append(labels, l[1])
	}
	slices.Sort(labels)
	return labels
}

// reportedMetrics returns the metrics of Caly in Prometheus' text format.
func reportedMetrics(text string) map[string]family {
	typed := regexp.MustCompile(`(?m)^# HELP (caly_[a-z0-9_]+) (.*)\n# TYPE \S+ ([a-z]+)$`)
	label := regexp.MustCompile(`([a-z_]+)="`)
	found := map[string]family{}
	for _, m := range typed.FindAllStringSubmatch(text, -1) {
		series := regexp.MustCompile(`(?m)^` + m[1] + `(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
		names := map[string]struct{}{}
		for _, s := range series.FindAllStringSubmatch(text, -1) {
			for _, l := range label.FindAllStringSubmatch(s[1], -1) {
				names[l[1]] = struct{}{}
			}
		}
		delete(names, "le")
		found[m[1]] = family{kind: m[3], labels: slices.Sorted(maps.Keys(names)), help: m[2]}
	}
	return found
}

// metricsTable reads the table of docs/reference.md. A row may have several names, with one type or one each.
func metricsTable(t *testing.T) map[string]family {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]family{}
	for line := range strings.Lines(string(text)) {
		if !isMetricRow(line) {
			continue
		}
		cells := strings.Split(line, "|")
		kinds := strings.Split(strings.TrimSpace(cells[2]), ", ")
		for i, name := range metricName.FindAllStringSubmatch(cells[1], -1) {
			table[name[1]] = family{kind: kinds[min(i, len(kinds)-1)], labels: sortedLabels(cells[3])}
		}
	}
	return table
}
