package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// TestPodsFile checks that the file has each target with its own labels and those of its pod, and none of a deleted pod.
func TestPodsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pods.json")
	ctx, stop := context.WithCancel(t.Context())
	updates := make(chan []*targetgroup.Group)
	ended := make(chan error, 1)
	go func() { ended <- keepFile(ctx, path, updates) }()
	updates <- []*targetgroup.Group{{Source: "pod/a", Targets: []model.LabelSet{{"__address__": "10.0.0.1:80"}}}}
	updates <- []*targetgroup.Group{{
		Source:  "pod/b",
		Targets: []model.LabelSet{{"__address__": "10.0.0.2:80", "port": "http"}, {"__address__": "10.0.0.2:81"}},
		Labels:  model.LabelSet{"pod": "b"},
	}, {Source: "pod/a"}}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []staticGroup
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := []staticGroup{
		{Targets: []string{"10.0.0.2:80"}, Labels: map[string]string{"pod": "b", "port": "http"}},
		{Targets: []string{"10.0.0.2:81"}, Labels: map[string]string{"pod": "b"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}
