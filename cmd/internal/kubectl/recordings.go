package kubectl

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
)

// maxListed bounds --limit.
const maxListed = 100_000

func newRecordingsCommand(s *Session) *cobra.Command {
	return group("recordings", "Show recordings, and upload failed ones again",
		newRecordingsListCommand(s), newRecordingsShowCommand(s), newRecordingsRetryCommand(s))
}

// recordingColumns are those of a table.
var recordingColumns = columns[adminapi.Recording]{
	heading: []string{"TENANT", "ID", "CALL", "STATE", "ATTEMPTS", "AGE", "CODE"},
	wide:    []string{"SIZE", "OBJECT", "MESSAGE"},
	cells: func(r adminapi.Recording) []string {
		size, object := "-", "-"
		if r.Object != nil {
			size = strconv.FormatInt(r.Object.Size, 10)
			object = cli.Clean(r.Object.Bucket + "/" + r.Object.Key)
		}
		return []string{
			cli.Clean(r.Tenant),
			cli.Clean(r.ID),
			cli.Dash(r.CallSID),
			r.State,
			strconv.Itoa(r.Attempts),
			age(r.CreatedAt),
			cli.Dash(r.Code),
			size,
			object,
			cli.Dash(r.Message),
		}
	},
	name: func(r adminapi.Recording) string { return cli.Clean(r.Tenant + "/" + r.ID) },
}

// recordingFilter are the flags that choose recordings.
type recordingFilter struct {
	window
	state, code, call string
	failed            bool
}

// addTo adds the flags.
func (f *recordingFilter) addTo(cmd *cobra.Command, limit int) {
	f.window.addTo(cmd, "queued", limit)
	flags := cmd.Flags()
	flags.BoolVar(&f.failed, "failed", false, "recordings whose upload was given up")
	flags.StringVar(&f.code, "code", "", "code of the last error, such as AccessDenied or source-gone")
	flags.StringVar(&f.call, "call", "", "CallSid of the recordings' call")
}

// query adds the flags to the parameters of a list.
func (f *recordingFilter) query(values url.Values) error {
	if f.failed {
		if f.state != "" && f.state != "failed" {
			return cli.UsageError(nil, errors.New("give --failed or --state, not both"))
		}
		f.state = "failed"
	}
	setNonEmpty(values, "state", f.state)
	setNonEmpty(values, "code", f.code)
	setNonEmpty(values, "call", f.call)
	return f.window.query(values)
}

func newRecordingsListCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	var filter recordingFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List recordings by Tenant, of each the newest first",
		Args:  cli.NoArgs,
		Long: `Lists recordings by Tenant, of each the newest first. A failed recording stays in the list until a person retries it
or its Tenant is deleted. It needs the right to list recordings.`,
		Example: `  kubectl caly recordings list -n acme
  kubectl caly recordings list --failed -A -o wide
  kubectl caly recordings list --state pending -t acme/support -o name`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			namespace, tenant, err := where.resolve()
			if err != nil {
				return err
			}
			values := query(tenant)
			if err := filter.query(values); err != nil {
				return err
			}
			return listAndPrint(cmd, s, &where, listing[adminapi.Recording]{
				path:    adminapi.Path(namespace, adminapi.ResourceRecordings),
				query:   values,
				most:    filter.limit,
				columns: recordingColumns,
			})
		}),
	}
	where.addTo(cmd)
	filter.addTo(cmd, 500)
	cmd.Flags().StringVar(&filter.state, "state", "", "pending, leased, uploaded or failed")
	return cmd
}

func newRecordingsShowCommand(s *Session) *cobra.Command {
	where := scope{session: s}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a recording: its object, or why it has none",
		Args:  exactlyOne("the id of a recording, which \"recordings list\" shows"),
		Example: `  kubectl caly recordings show 1f0c9a7be2d4c681 -n acme
  kubectl caly recordings show acme/support/1f0c9a7be2d4c681 -o yaml`,
		RunE: run(func(cmd *cobra.Command, args []string) error {
			return showAndPrint(cmd, &where, args[0], showing[adminapi.Recording]{
				resource: adminapi.ResourceRecordings,
				name:     recordingColumns.name,
				print:    printRecording,
			})
		}),
	}
	where.addTo(cmd)
	return cmd
}

// printRecording prints a recording's fields.
func printRecording(cmd *cobra.Command, r adminapi.Recording) {
	var fields pairs
	fields.add("Tenant", r.Tenant)
	fields.add("Recording", r.ID)
	fields.add("Call", r.CallSID)
	fields.add("State", r.State)
	fields.add("Attempts", strconv.Itoa(r.Attempts))
	fields.add("Queued", stamp(&r.CreatedAt))
	fields.add("Next attempt", stamp(r.NextAttemptAt))
	fields.add("Finished", stamp(r.FinishedAt))
	fields.add("Error", r.Code)
	fields.add("Message", r.Message)
	fields.add("Source", r.SourceURL)
	if r.Object != nil {
		fields.add("Object", r.Object.Bucket+"/"+r.Object.Key)
		fields.add("Size", strconv.FormatInt(r.Object.Size, 10)+" bytes")
		fields.add("SHA-256", r.Object.SHA256)
	}
	fields.print(cmd)
}

// object is an argument that names one object.
type object struct{ namespace, tenant, id string }

// object reads ID or namespace/tenant/ID.
func (f *scope) object(argument string) (o object, err error) {
	parts := strings.Split(argument, "/")
	if len(parts) != 1 && len(parts) != 3 || slices.Contains(parts, "") {
		return o, cli.UsageError(nil, fmt.Errorf("%.100q is neither an id nor namespace/tenant/id", argument))
	}
	if f.all {
		return o, cli.UsageError(
			nil, errors.New("--all-namespaces does not suit the id of an object; give its namespace"),
		)
	}
	if len(parts) == 3 {
		if err := checkOutput(f.output); err != nil {
			return o, err
		}
		return object{parts[0], parts[1], parts[2]}, nil
	}
	o.id = argument
	o.namespace, o.tenant, err = f.resolve()
	return o, err
}

// exactlyOne is an argument check of commands that take one argument.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return cli.UsageError(cmd, fmt.Errorf("give %s", what))
		}
		return nil
	}
}
