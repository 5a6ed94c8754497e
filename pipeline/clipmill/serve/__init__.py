"""The search service: questions over HTTP to published indices, their answers, and a page to ask from."""
