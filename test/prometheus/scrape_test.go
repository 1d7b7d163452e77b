package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// TestScrapes compares the jobs with those that the Prometheus Operator 0.85 writes for the same PodMonitors. Its program
// made testdata/operator.yaml: promcfg.go, GenerateServerConfiguration, for Prometheus 2.42.
func TestScrapes(t *testing.T) {
	found := readFile(t, "testdata/podmonitors.yaml")
	config, err := configuration(found.monitors, "", "rules.yml", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]scrape{}
	for _, job := range config.Scrape {
		job.Discovery = nil // Debian's Prometheus finds no pods by itself
		got[job.JobName] = job
	}
	if diff := cmp.Diff(operatorsScrapes(t), got); diff != "" {
		t.Errorf("jobs (-the operator's +ours):\n%s", diff)
	}
}

// operatorsScrapes returns the operator's jobs without its steps for shards, which keep every target of a single Prometheus.
func operatorsScrapes(t *testing.T) map[string]scrape {
	t.Helper()
	text, err := os.ReadFile("testdata/operator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config prometheusConfig
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	jobs := map[string]scrape{}
	for _, job := range config.Scrape {
		var steps []relabel
		for _, step := range job.Relabel {
			if !strings.Contains(strings.Join(step.SourceLabels, " "), "__tmp_hash") {
				steps = append(steps, step)
			}
		}
		job.Relabel = steps
		jobs[job.JobName] = job
	}
	return jobs
}

func readFile(t *testing.T, path string) found {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	read, err := readManifests(file)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// TestUnknownFields checks that what this program would leave out is an error.
func TestUnknownFields(t *testing.T) {
	const header = "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {name: a, namespace: b}\nspec:\n"
	const rule = "---\nkind: PrometheusRule\nspec: {groups: []}\n"
	for name, tc := range map[string]struct{ spec, wantError string }{
		"good":                {"  podMetricsEndpoints: [{port: m, path: /metrics}]\n", ""},
		"no port":             {"  podMetricsEndpoints: [{path: /metrics}]\n", "PodMonitor b/a"},
		"a job label":         {"  jobLabel: x\n  podMetricsEndpoints: [{port: m}]\n", "PodMonitor b/a"},
		"metric relabelings":  {"  podMetricsEndpoints: [{port: m, metricRelabelings: [{action: drop}]}]\n", "PodMonitor b/a"},
		"a misspelled field":  {"  podMetricEndpoints: [{port: m}]\n", "podMetricEndpoints"},
		"any other namespace": {"  namespaceSelector: {any: true}\n  podMetricsEndpoints: [{port: m}]\n", "PodMonitor b/a"},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := readManifests(strings.NewReader(header + tc.spec + rule))
			if err == nil {
				_, err = configuration(found.monitors, "", "", 0)
			}
			if tc.wantError == "" && err != nil ||
				tc.wantError != "" && (err == nil || !strings.Contains(err.Error(), tc.wantError)) {
				t.Errorf("got error %v, want %q", err, tc.wantError)
			}
		})
	}
}
