package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

func newSimulateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Stand in for Exotel, to try an installation",
		Args:  cli.NoArgs,
		RunE:  help,
	}
	cmd.AddCommand(
		newSimulateServerCommand(), newSimulateCallCommand(), newSimulateVerifyCommand(), newSimulateStreamCommand(),
	)
	return cmd
}

func newSimulateServerCommand() *cobra.Command {
	var listen, keyFile, tokenFile string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve recordings as Exotel does, until interrupted",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := readLine(keyFile)
			if err != nil {
				return err
			}
			token, err := readLine(tokenFile)
			if err != nil {
				return err
			}
			server, err := exotelsim.NewServer(exotelsim.Options{Listen: listen, Key: key, Token: token})
			if err != nil {
				return err
			}
			defer server.Close()
			cmd.Printf("serving recordings at %s/exotelrecordings/{account}/{call}.mp3?size={bytes}\n", server.URL())
			<-cmd.Context().Done()
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8090", "address")
	cmd.Flags().StringVar(&keyFile, "api-key-file", "", "file with the API key that clients must send; none if empty")
	cmd.Flags().StringVar(&tokenFile, "api-token-file", "", "file with the API token")
	return cmd
}

// readLine reads a small secret from a file; no file, no secret.
func readLine(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}
