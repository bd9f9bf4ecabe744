"""Every method in one harness: same model, same calibration data, same budget, same questions."""
