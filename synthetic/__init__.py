"""Problems with a known answer: noise of a known tail, quadratics of known curvature."""
