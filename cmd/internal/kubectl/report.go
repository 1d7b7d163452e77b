package kubectl

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/utils/ptr"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/bounded"
	"github.com/caly-dev/caly/internal/doctor"
)

// Bounds of a report.
const (
	// reportWithin bounds the whole, and readWithin what is read of one object or kind.
	reportWithin = 5 * time.Minute
	readWithin   = 20 * time.Second
	// maxReportPods is the number of pods whose logs and metrics are read.
	maxReportPods = 50
	// maxLogLines and maxLogBytes bound one log, maxMetricBytes the metrics of a pod, and maxReportBytes all files.
	maxLogLines    = 5000
	maxLogBytes    = 2 << 20
	maxMetricBytes = 4 << 20
	maxReportBytes = 128 << 20
)

func newReportCommand(s *Session) *cobra.Command {
	var file string
	var since time.Duration
	var skipLogs bool
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write a support bundle without secrets",
		Long: `Writes a .tar.gz with what somebody needs who is to find a fault: Tenants, CallRecordings, Deployments, pods, Jobs, events,
policies, logs, metrics, versions and the findings of doctor. With --namespace it has the Tenants of that namespace only.

It reads no Secret and no ConfigMap. Values of environment variables, annotations, telephone numbers, email addresses, tokens,
passwords and all of a URL but its host are left out, also of logs and messages. Look into the file before you send it.`,
		Args:    cli.NoArgs,
		Example: `  kubectl caly report --since 2h`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if since <= 0 {
				return cli.UsageError(nil, errors.New("--since must be positive"))
			}
			if file == "" {
				file = "caly-report-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
			}
			r := &report{session: s, since: since, skipLogs: skipLogs}
			if err := r.write(cmd.Context(), file); err != nil {
				return err
			}
			cmd.Printf("%s has %d files\n", file, r.files)
			for _, missing := range r.missing {
				cmd.PrintErrln("not found out: " + cli.Clean(missing))
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(
		&file, "file", "f", "", "the file to write; it must not exist (default: caly-report-TIME.tar.gz)",
	)
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how old log lines may be")
	cmd.Flags().BoolVar(&skipLogs, "skip-logs", false, "no logs")
	return cmd
}

// report collects the files of a bundle.
type report struct {
	session  *Session
	since    time.Duration
	skipLogs bool

	cluster *cluster
	core    corev1client.CoreV1Interface
	out     *tar.Writer
	now     time.Time
	files   int
	bytes   int
	missing []string
}

// write writes the bundle to a file that only its owner can read. A file that exists is not replaced.
func (r *report) write(ctx context.Context, name string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	config, err := r.session.Config()
	if err != nil {
		return err
	}
	if r.cluster, err = r.session.Cluster(); err != nil {
		return err
	}
	if r.core, err = corev1client.NewForConfig(config); err != nil {
		return fmt.Errorf("use the kubeconfig: %w", err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	r.now = time.Now().UTC()
	compressed := gzip.NewWriter(file)
	r.out = tar.NewWriter(compressed)
	err = errors.Join(r.collect(ctx), r.out.Close(), compressed.Close(), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// collect adds all files. What cannot be read is named in the last one.
func (r *report) collect(ctx context.Context) error {
	deployments, err := r.cluster.deployments(ctx)
	r.miss("Deployments", err)
	uploads := argument(component(deployments, componentOperator), "upload-namespace")
	state, err := readStatus(ctx, r.session, r.session.namespace, "")
	if err != nil {
		r.miss("status", err)
	} else if err := r.addJSON("status.json", state); err != nil {
		return err
	}
	findings, err := diagnose(ctx, r.session)
	r.miss("doctor", err)
	if err := r.addJSON("doctor.json", doctor.Report{Findings: findings}); err != nil {
		return err
	}
	for _, k := range kindsOf(r.session.operatorNamespace, uploads, []string{r.session.namespace}) {
		within, cancel := context.WithTimeout(ctx, readWithin)
		text, err := r.cluster.read(within, k)
		cancel()
		r.miss(k.file, err)
		if text != "" {
			if err := r.add(k.file+".yaml", redact(text)); err != nil {
				return err
			}
		}
	}
	if err := r.addPods(ctx, r.session.operatorNamespace, uploads); err != nil {
		return err
	}
	return r.add("missing.txt", redact(strings.Join(r.missing, "\n"))+"\n")
}

// addPods adds the logs and the metrics of the pods.
func (r *report) addPods(ctx context.Context, namespaces ...string) error {
	pods, err := r.cluster.pods(ctx)
	r.miss("pods", err)
	if uploads := namespaces[len(namespaces)-1]; uploads != "" {
		more, err := r.uploadPods(ctx, uploads)
		r.miss("upload pods", err)
		pods = append(pods, more...)
	}
	if len(pods) > maxReportPods {
		r.missing = append(
			r.missing, fmt.Sprintf("logs and metrics of %d of %d pods", len(pods)-maxReportPods, len(pods)),
		)
		pods = pods[:maxReportPods]
	}
	for i := range pods {
		if err := r.addPod(ctx, &pods[i]); err != nil {
			return err
		}
	}
	return nil
}

// uploadPods returns pods of the upload namespace.
func (r *report) uploadPods(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	list := &cluster{Client: r.cluster.Client, namespace: namespace}
	return list.labelled(ctx, map[string]string{"app.kubernetes.io/managed-by": "caly"})
}

// addPod adds what a pod says.
func (r *report) addPod(ctx context.Context, pod *corev1.Pod) error {
	for _, container := range pod.Spec.Containers {
		base := "pods/" + pod.Namespace + "/" + pod.Name + "/" + container.Name
		if !r.skipLogs {
			for _, previous := range []bool{false, true} {
				if previous && !restarted(pod, container.Name) {
					continue
				}
				name := base + ".log"
				if previous {
					name = base + ".previous.log"
				}
				text, err := r.log(ctx, pod, container.Name, previous)
				r.miss(name, err)
				if err := r.addText(name, redact(text)); err != nil {
					return err
				}
			}
		}
		for _, port := range container.Ports {
			if port.Name != "metrics" && port.Name != "internal" {
				continue
			}
			text, err := r.metrics(ctx, pod, port.ContainerPort)
			r.miss(base+".metrics", err)
			if err := r.addText(base+".metrics", redactSecrets(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

// restarted reports whether a container has an earlier log.
func restarted(pod *corev1.Pod, container string) bool {
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == container && status.LastTerminationState.Terminated != nil {
			return true
		}
	}
	return false
}

// log reads the end of a log.
func (r *report) log(ctx context.Context, pod *corev1.Pod, container string, previous bool) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	body, err := r.core.Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
		Container:    container,
		Previous:     previous,
		SinceSeconds: ptr.To(max(1, int64(r.since.Seconds()))),
		TailLines:    ptr.To[int64](maxLogLines),
		LimitBytes:   ptr.To[int64](maxLogBytes),
		Timestamps:   true,
	}).Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxLogBytes))
	return string(data), err
}

// metrics reads the metrics of a pod through the API server.
func (r *report) metrics(ctx context.Context, pod *corev1.Pod, port int32) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	body, err := r.core.RESTClient().Get().Namespace(pod.Namespace).Resource("pods").
		Name(fmt.Sprintf("%s:%d", pod.Name, port)).SubResource("proxy").Suffix("metrics").Stream(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, maxMetricBytes))
	return string(data), err
}

// miss notes what could not be read.
func (r *report) miss(what string, err error) {
	if err != nil {
		r.missing = append(r.missing, what+": "+bounded.Text(redact(err.Error()), 300))
	}
}

// addJSON adds an object.
func (r *report) addJSON(name string, object any) error {
	data, err := json.MarshalIndent(object, "", "  ")
	if err != nil {
		return err
	}
	return r.add(name, redact(string(data))+"\n")
}

// addText adds a file unless it is empty.
func (r *report) addText(name, text string) error {
	if text == "" {
		return nil
	}
	return r.add(name, text)
}

// add adds a file. Its text is redacted.
func (r *report) add(name, text string) error {
	if r.bytes += len(text); r.bytes > maxReportBytes && name != "missing.txt" {
		r.missing = append(r.missing, name+": the report has its full size")
		return nil
	}
	r.files++
	if err := r.out.WriteHeader(&tar.Header{
		Name:    "caly-report/" + name,
		Mode:    0o600,
		Size:    int64(len(text)),
		ModTime: r.now,
	}); err != nil {
		return err
	}
	_, err := io.WriteString(r.out, text)
	return err
}
