package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"golang.org/x/sync/errgroup"
)

// staticGroup is a group of a file for Prometheus' file_sd_configs.
type staticGroup struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// discover writes the pods of each namespace to a file of the folder, and again at each change, until the context ends.
// Debian's Prometheus is built without discovery of pods. This is the same code of Prometheus, outside of it.
func discover(ctx context.Context, namespaces []string, kubeconfig, folder string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, namespace := range namespaces {
		pods, err := podsOf(namespace, kubeconfig)
		if err != nil {
			return fmt.Errorf("discovery of pods in %s: %w", namespace, err)
		}
		updates := make(chan []*targetgroup.Group)
		group.Go(func() error {
			pods.Run(ctx, updates)
			return nil
		})
		group.Go(func() error { return keepFile(ctx, podsFile(folder, namespace), updates) })
	}
	return group.Wait()
}

// podsFile returns the file of the pods of a namespace.
func podsFile(folder, namespace string) string {
	return filepath.Join(folder, "pods-"+namespace+".json")
}

func podsOf(namespace, kubeconfig string) (discovery.Discoverer, error) {
	config := &kubernetes.SDConfig{
		Role:               kubernetes.RolePod,
		KubeConfig:         kubeconfig,
		NamespaceDiscovery: kubernetes.NamespaceDiscovery{Names: []string{namespace}},
	}
	registry := prometheus.NewRegistry()
	metrics := config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	if err := metrics.Register(); err != nil {
		return nil, err
	}
	return config.NewDiscoverer(discovery.DiscovererOptions{
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Metrics:           metrics,
		HTTPClientOptions: nil,
	})
}

// keepFile writes each update to the file.
func keepFile(ctx context.Context, path string, updates <-chan []*targetgroup.Group) error {
	known := map[string]*targetgroup.Group{}
	for {
		if err := writeGroups(path, known); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case groups := <-updates:
			for _, group := range groups {
				known[group.Source] = group
			}
		}
	}
}

// writeGroups replaces the file at once, so that Prometheus never reads half of it.
func writeGroups(path string, known map[string]*targetgroup.Group) error {
	groups := []staticGroup{}
	for _, source := range slices.Sorted(maps.Keys(known)) {
		groups = append(groups, staticGroups(known[source])...)
	}
	text, err := json.MarshalIndent(groups, "", "  ")
	if err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// staticGroups returns a group for each target, since the labels of a group are those of all its targets.
func staticGroups(group *targetgroup.Group) []staticGroup {
	var all []staticGroup
	for _, target := range group.Targets {
		static := staticGroup{
			Targets: []string{string(target[model.AddressLabel])},
			Labels:  map[string]string{},
		}
		for name, value := range group.Labels.Merge(target) {
			if name != model.AddressLabel {
				static.Labels[string(name)] = string(value)
			}
		}
		all = append(all, static)
	}
	return all
}
