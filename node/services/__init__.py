"""What a node does all the time: each module one service, each a child of the node's nursery."""
