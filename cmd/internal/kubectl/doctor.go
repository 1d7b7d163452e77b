package kubectl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/buildinfo"
	"github.com/caly-dev/caly/internal/doctor"
)

// Bounds of a run.
const (
	// doctorWithin bounds all checks; those of the operator take 25 s at most.
	doctorWithin = 40 * time.Second
	// checkWithin bounds one check of this program.
	checkWithin = 15 * time.Second
	// doctorParallel is the number of checks at once.
	doctorParallel = 8
)

func newDoctorCommand(s *Session) *cobra.Command {
	var output, failOn string
	var all bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check an installation, and say how to correct what is wrong",
		Long: `Checks an installation by doing its work: the operator makes a transaction, writes, reads and deletes an object in the
bucket of each Tenant, connects to Exotel's API, and asks for each of its rights. This program looks at pods, Secrets, routes,
policies and the autoscaler with the rights of the kubeconfig, and sends a webhook without a signature to the public address.

With --namespace the operator checks the Tenants of that namespace only. The checks of the operator need the verb create on
doctor.voice.caly.dev, in the namespace or, without it, in the whole cluster. Every check has a time of its own; all end after
40 seconds.

Exit status: 0 no finding is as bad as --fail-on; 1 one is; 64 wrong usage.`,
		Args: cli.NoArgs,
		Example: `  kubectl caly doctor
  kubectl caly doctor -n acme --all --fail-on warning`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if output != outputTable && output != outputJSON && output != outputYAML {
				return cli.UsageError(nil, fmt.Errorf("--output %q is not one of table, json and yaml", output))
			}
			limit := doctor.Severity(failOn)
			if !limit.Known() || limit == doctor.OK {
				return cli.UsageError(
					nil, fmt.Errorf("--fail-on %q is not one of critical, warning and skipped", failOn),
				)
			}
			findings, err := diagnose(cmd.Context(), s)
			if err != nil {
				return err
			}
			if output == outputTable {
				printFindings(cmd, findings, all)
			} else if err := printObject(cmd, output, doctor.Report{Findings: findings}); err != nil {
				return err
			}
			if worst := doctor.Worst(findings); worst.Atleast(limit) {
				return &cli.ExitError{Code: exitFailed, Err: fmt.Errorf("the worst finding is %s", worst)}
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	cmd.Flags().BoolVar(&all, "all", false, "print what is well too")
	cmd.Flags().StringVar(&failOn, "fail-on", string(doctor.Critical), "the least severity that makes the command fail")
	return cmd
}

// diagnose runs the checks of the operator and those of this program.
func diagnose(ctx context.Context, s *Session) ([]doctor.Finding, error) {
	c, err := s.Cluster()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWithin)
	defer cancel()
	local := &localChecks{cluster: c, version: s.Version, only: s.namespace}
	checks := []doctor.Check{{
		Area:   "operator",
		Name:   "admin API",
		Within: doctorWithin - 2*time.Second,
		// The findings of the operator have areas of their own.
		Run: func(ctx context.Context) []doctor.Finding { return local.operator(ctx, s) },
	}}
	for _, check := range []struct {
		area, name string
		run        func(context.Context) []doctor.Finding
	}{
		{"workloads", "deployments", local.deploymentsReady},
		{"workloads", "pods", local.podsStart},
		{"workloads", "Secrets", local.secretsExist},
		{"workloads", "upload Jobs", local.uploadJobs},
		{"workloads", "autoscaler", local.autoscaler},
		{"versions", "images", local.images},
		{"versions", "CRDs", local.crds},
		{"network", "policies", local.policies},
		{"network", "client addresses", local.proxies},
		{"network", "public address", local.publicAddress},
	} {
		checks = append(checks, doctor.Check{Area: check.area, Name: check.name, Within: checkWithin, Run: check.run})
	}
	return doctor.Run(ctx, doctorParallel, checks), nil
}

// localChecks are the checks of this program.
type localChecks struct {
	*cluster
	version buildinfo.Info
	// only is the namespace of the Tenants to look at; empty: all.
	only string
}

// operator asks the operator for its checks.
func (l *localChecks) operator(ctx context.Context, s *Session) []doctor.Finding {
	api, done, err := s.Client()
	if err != nil {
		return unanswered(err)
	}
	defer done()
	var operator buildinfo.Info
	if err := api.Get(ctx, adminapi.VersionPath, nil, &operator); err != nil {
		return unanswered(err)
	}
	found := finding(doctor.OK, "", "the operator answers: "+operator.String(), "")
	if operator.Version != l.version.Version {
		found = append(found, finding(doctor.Warning, "",
			fmt.Sprintf("the operator has version %s and this program %s", operator.Version, l.version.Version),
			"use the program of the operator's version")...)
	}
	var report doctor.Report
	path := adminapi.Path(s.namespace, adminapi.ResourceDoctor)
	switch err := api.Post(ctx, path, struct{}{}, &report); {
	case apierrors.IsForbidden(err):
		found = append(found, finding(doctor.Skipped, "", "the checks of the operator: "+err.Error(),
			"ask for the verb create on doctor.voice.caly.dev, or give --namespace")...)
	case err != nil:
		found = append(found, finding(doctor.Skipped, "", "the checks of the operator: "+err.Error(), "")...)
	}
	return append(found, report.Findings...)
}

// unanswered is the finding of an operator that cannot be asked.
func unanswered(err error) []doctor.Finding {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return finding(doctor.Skipped, "", "the operator cannot be asked: "+err.Error(),
			"ask for the Role of the chart for kubectl caly; see docs/how-to/use-kubectl-caly.md")
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = errors.New("it does not answer in time")
	}
	return finding(doctor.Critical, "", "the operator cannot be asked: "+err.Error(),
		"look at the operator's pods and log; Tenants are not compiled and uploads do not start without it")
}

// finding is one finding as a list.
func finding(severity doctor.Severity, object, message, fix string) []doctor.Finding {
	return []doctor.Finding{{Severity: severity, Object: object, Message: message, Fix: fix}}
}

// unread is the finding of objects that cannot be read.
func unread(what string, err error) []doctor.Finding {
	fix := ""
	if apierrors.IsForbidden(err) {
		fix = "ask for the right to read them, or run this with other credentials"
	}
	return finding(doctor.Skipped, "", what+" cannot be read: "+err.Error(), fix)
}

// printFindings prints the findings for people.
func printFindings(cmd *cobra.Command, findings []doctor.Finding, all bool) {
	counts := map[doctor.Severity]int{}
	for _, f := range findings {
		counts[f.Severity]++
		if f.Severity == doctor.OK && !all {
			continue
		}
		subject := f.Area + ": " + f.Check
		if f.Object != "" {
			subject += ": " + f.Object
		}
		cmd.Printf("%-8s  %s\n          %s\n", f.Severity, cli.Clean(subject), cli.Clean(f.Message))
		if f.Fix != "" {
			cmd.Printf("          fix: %s\n", cli.Clean(f.Fix))
		}
	}
	cmd.Printf("%d critical, %d warnings, %d skipped, %d ok\n",
		counts[doctor.Critical], counts[doctor.Warning], counts[doctor.Skipped], counts[doctor.OK])
}
