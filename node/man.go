package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"lanchat/wire/usage"
)

// manCommand writes manual pages, made from the commands themselves.
// (Completion for shells is cobra's own: node completion bash.)
func (o *options) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Writes manual pages into a directory: node.1, node-send.1, …", Args: usage.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("making the directory: %w", err)
			}
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "NODE", Section: "1", Source: "lanchat", Manual: "lanchat"}, args[0]); err != nil {
				return fmt.Errorf("writing the manual: %w", err)
			}
			fmt.Println("read it with: man " + filepath.Join(args[0], "node.1"))
			return nil
		},
	}
}
