package kubectl

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/adminapi"
	"github.com/caly-dev/caly/internal/buildinfo"
)

func newVersionCommand(s *Session) *cobra.Command {
	var clientOnly bool
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program and of the operator",
		Args:  cli.NoArgs,
		Example: `  kubectl caly version
  kubectl caly version --client`,
		RunE: run(func(cmd *cobra.Command, _ []string) error {
			if output == outputName || output == outputWide {
				return cli.UsageError(nil, fmt.Errorf("--output %q is not one of table, json and yaml", output))
			}
			if err := checkOutput(output); err != nil {
				return err
			}
			versions := struct {
				Client   buildinfo.Info  `json:"client"`
				Operator *buildinfo.Info `json:"operator,omitempty"`
			}{Client: s.Version}
			var failed error
			if !clientOnly {
				versions.Operator, failed = operatorVersion(cmd, s)
			}
			if output != outputTable {
				if err := printObject(cmd, output, versions); err != nil {
					return err
				}
				return failed
			}
			cmd.Println("Client:   " + versions.Client.String())
			if versions.Operator != nil {
				cmd.Println("Operator: " + versions.Operator.String())
			}
			return failed
		}),
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "this program's version only")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

// operatorVersion asks the operator.
func operatorVersion(cmd *cobra.Command, s *Session) (*buildinfo.Info, error) {
	c, done, err := s.Client()
	if err != nil {
		return nil, err
	}
	defer done()
	var version buildinfo.Info
	if err := c.Get(cmd.Context(), adminapi.VersionPath, nil, &version); err != nil {
		return nil, err
	}
	return &version, nil
}
