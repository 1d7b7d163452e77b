// Command prometheus is the Prometheus Operator of the local cluster: it writes the configuration of a Prometheus for the
// PodMonitors and the PrometheusRule of rendered manifests, and then the cluster's pods, until it is stopped.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"sigs.k8s.io/yaml"
)

type options struct {
	manifests  string
	out        string
	kubeconfig string
	faster     speed
}

func main() {
	var o options
	flag.StringVar(&o.manifests, "manifests", "", "file of rendered manifests")
	flag.StringVar(&o.out, "out", "", "folder of prometheus.yml, rules.yml and the files of pods")
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "file by which this program finds pods")
	flag.Float64Var(&o.faster.factor, "faster", 1, "divide each duration of a rule by this number")
	flag.DurationVar(&o.faster.window, "min-window", 0, "shortest window of a range that -faster leaves")
	flag.DurationVar(&o.faster.age, "min-age", 0, "shortest age of a threshold that -faster leaves")
	flag.DurationVar(
		&o.faster.scrape, "scrape", 0, "interval of scrapes and rules, in place of that of the PodMonitors",
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "prometheus:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

// run reads the manifests, writes the configuration, and keeps the files of pods until the context ends.
func run(ctx context.Context, o options) error {
	if o.out == "" || o.kubeconfig == "" || o.manifests == "" {
		return errors.New("the flags -manifests, -kubeconfig and -out are required")
	}
	text, err := os.ReadFile(o.manifests)
	if err != nil {
		return err
	}
	found, err := readManifests(bytes.NewReader(text))
	if err != nil {
		return err
	}
	rules, err := o.faster.rules(found.rules)
	if err != nil {
		return err
	}
	rulesFile := filepath.Join(o.out, "rules.yml")
	config, err := configuration(found.monitors, o.out, rulesFile, o.faster.scrape)
	if err != nil {
		return err
	}
	if err := writeYAML(rulesFile, rules); err != nil {
		return err
	}
	if err := writeYAML(filepath.Join(o.out, "prometheus.yml"), config); err != nil {
		return err
	}
	return discover(ctx, namespacesOf(found.monitors), o.kubeconfig, o.out)
}

// writeYAML replaces the file at once.
func writeYAML(path string, value any) error {
	text, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	part := path + ".part"
	if err := os.WriteFile(part, text, 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}
